"""Money: rounding to the cent, and numbers in plain notation."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.money import CENT, MAX_DECIMALS, cents, plain

amounts = st.decimals(min_value=-(10**12), max_value=10**12, places=MAX_DECIMALS)


@pytest.mark.parametrize(
    ("amount", "rounded"),
    [
        ("1.004999999", "1.00"),
        ("1.005", "1.01"),
        ("1.015", "1.02"),
        ("-1.005", "-1.01"),
        ("-1.004999999", "-1.00"),
        ("2", "2.00"),
    ],
)
def test_halves_are_rounded_away_from_zero(amount: str, rounded: str) -> None:
    """Brokers round a statement line in this way, for payments and receipts alike."""
    assert str(cents(Decimal(amount))) == rounded


@given(amounts)
def test_rounding_moves_at_most_half_a_cent(amount: Decimal) -> None:
    """The result is the nearest whole number of cents."""
    rounded = cents(amount)
    assert rounded % CENT == 0
    assert abs(rounded - amount) <= CENT / 2


@given(amounts)
def test_rounding_twice_changes_nothing(amount: Decimal) -> None:
    """A rounded amount stays as it is."""
    assert cents(cents(amount)) == cents(amount)


@given(amounts)
def test_paying_and_receiving_round_to_the_same_cents(amount: Decimal) -> None:
    """Neither side of a trade gains from rounding."""
    assert cents(-amount) == -cents(amount)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("1E+2", "100"),
        ("100", "100"),
        ("100.00", "100"),
        ("0.10", "0.1"),
        ("0E-9", "0"),
        ("0.000000001", "0.000000001"),
        ("-12.50", "-12.5"),
    ],
)
def test_a_number_is_written_in_plain_notation(number: str, text: str) -> None:
    """There is no exponent and no trailing zero after the point. Zeros before the point stay."""
    assert plain(Decimal(number)) == text


@pytest.mark.parametrize("number", ["-0", "-0.00", "-0E-9"])
def test_zero_is_written_without_a_sign(number: str) -> None:
    """Decimal has a negative zero, which is the rounded value of -0.004."""
    assert plain(Decimal(number)) == "0"


@given(amounts)
def test_writing_a_number_loses_no_digit(amount: Decimal) -> None:
    """The text can be read again, without an exponent or needless zeros."""
    text = plain(amount)
    assert Decimal(text) == amount
    assert "E" not in text
    assert not ("." in text and text.endswith(("0", ".")))
