"""The text of an error says what happened in its last line, and has neither clients' data nor links."""

from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError

from shared.tracebacks import LONGEST, traceback_of


class Model(BaseModel):
    number: int


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause  # noqa: TRY301
    except BaseException as caught:  # noqa: BLE001 - with its traceback
        return caught


def of_database() -> IntegrityError:
    statement = "INSERT INTO accounts\n\n VALUES (%(secret)s)"
    duplicate = ValueError("duplicate key value\nDETAIL:  Key (id)=(1) already exists.")
    return IntegrityError(statement, {"secret": "hunter2"}, duplicate)


def test_a_database_error_is_its_own_first_line() -> None:
    """PostgreSQL's details stand above it, and SQLAlchemy's statement, parameters and link nowhere."""
    text = traceback_of(raised(of_database()))
    assert text.splitlines()[-1] == "sqlalchemy.exc.IntegrityError: (builtins.ValueError) duplicate key value"
    assert "  DETAIL:  Key (id)=(1) already exists." in text
    assert "Traceback (most recent call last)" in text
    for left_out in ("sqlalche.me", "hunter2", "INSERT INTO accounts", "VALUES"):
        assert left_out not in text


def test_the_cause_of_an_error_is_stripped_too() -> None:
    """Also where a pydantic error caused it, with its own link."""
    try:
        Model.model_validate({"number": "many"})
    except ValueError as error:
        causes = [raised(of_database()), error]
    for cause in causes:
        text = traceback_of(raised(RuntimeError("the run failed"), cause))
        assert text.splitlines()[-1] == "RuntimeError: the run failed"
        assert "direct cause" in text
        for left_out in ("sqlalche.me", "hunter2", "INSERT INTO accounts", "errors.pydantic.dev"):
            assert left_out not in text


def test_a_long_error_keeps_both_ends() -> None:
    text = traceback_of(raised(ValueError("x" * 1_000_000)))
    assert len(text) < LONGEST + 100
    assert text.startswith("Traceback")
