# One recipe for every service: SERVICE picks the dependency group and the folder that go in.
ARG PYTHON=3.13
FROM python:${PYTHON}-slim AS build
WORKDIR /app
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_PYTHON_DOWNLOADS=never UV_PYTHON=/usr/local/bin/python3 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
COPY pyproject.toml uv.lock ./
# What all services share is one layer, made once for all five.
RUN uv sync --locked --group shared
ARG SERVICE
RUN uv sync --locked --group ${SERVICE}
COPY shared shared
COPY services/__init__.py services/__init__.py
COPY services/${SERVICE} services/${SERVICE}
# The root file system is read-only where it runs: without bytecode here, every process would compile all of it.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash shared services

FROM python:${PYTHON}-slim
WORKDIR /app
RUN useradd --system --uid 10001 --user-group --no-create-home paperprofit
COPY --from=build /app/.venv .venv
COPY config config
COPY deploy/healthcheck.py deploy/healthcheck.py
COPY deploy/postgres/roles.sql deploy/postgres/roles.sql
COPY --from=build /app/shared shared
COPY --from=build /app/services services
ARG SERVICE
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SERVICE=${SERVICE}
USER paperprofit
CMD ["sh", "-c", "exec python -m services.${SERVICE}"]
