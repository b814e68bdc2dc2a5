# One recipe for every service: SERVICE picks the dependency group and the folder that go in.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
ARG SERVICE
WORKDIR /app
RUN pip install --no-cache-dir uv==0.13.9
COPY pyproject.toml uv.lock ./
RUN UV_PYTHON_DOWNLOADS=never uv sync --locked --no-cache --group ${SERVICE} --python "$(command -v python3)"

FROM python:${PYTHON}-slim
ARG SERVICE
WORKDIR /app
RUN useradd --system --uid 10001 --no-create-home paperprofit
COPY --from=build /app/.venv /app/.venv
COPY shared /app/shared
COPY services/__init__.py /app/services/__init__.py
COPY services/${SERVICE} /app/services/${SERVICE}
COPY config /app/config
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SERVICE=${SERVICE}
USER paperprofit
EXPOSE 8000 8080
CMD ["sh", "-c", "exec python -m services.${SERVICE}"]
