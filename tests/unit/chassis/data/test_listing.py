"""Filters are total: any text gives conditions or a refusal that names the field, never another error."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Boolean, Column, Float, MetaData, Table, Text, select

from services.chassis.data import Order, PageQuery, UtcTime, make_token, parse_filter, read_token
from services.chassis.errors import Invalid

pytestmark = pytest.mark.unit

TABLE = Table(
    "t",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("name", Text),
    Column("count", BigInteger),
    Column("score", Float),
    Column("on", Boolean),
    Column("time", UtcTime, nullable=False),
)
FIELDS = {column.key: column for column in TABLE.c}
PIECES = [
    *FIELDS,
    "=",
    "!=",
    "<",
    ":",
    " ",
    "AND",
    '"',
    '"a b"',
    "1",
    "-",
    "true",
    "2026-01-01",
    "x",
    "\\",
    "\n",
    "(",
    "%",
]


@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=12).map("".join)))
def test_any_text_is_a_filter_or_a_refusal(text: str) -> None:
    with suppress(Invalid):
        str(select(TABLE).where(*parse_filter(text, FIELDS)).compile())


@given(st.text(max_size=60))
def test_any_text_is_a_token_or_a_refusal(text: str) -> None:
    order = Order("", FIELDS, TABLE.c.id, TABLE.c.time)
    with pytest.raises(Invalid) as refusal:
        read_token(text, "bound", order)
    assert refusal.value.field == "page_token"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("own", "own"),
        ("'own'", "own"),
        ('"own"', "own"),
        (r"'it\'s'", "it's"),
        ('"two words"', "two words"),
        ("'two words'", "two words"),
        (r'"no\q"', "noq"),
        ('"a\tb"', "a\tb"),
        ("it's", "it's"),
    ],
)
def test_quotes_are_never_part_of_a_value(written: str, meant: str) -> None:
    """`name = 'own'` gave an empty list, and so did what stood in double quotes and was no JSON."""
    (condition,) = parse_filter(f"name = {written}", FIELDS)
    assert list(condition.compile().params.values()) == [meant]


@pytest.mark.parametrize("written", ["'own", '"own', "'own'x", "'"])
def test_quotes_that_do_not_close_are_refused(written: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_filter(f"name = {written}", FIELDS)
    assert refusal.value.field == "filter"


def test_json_that_breaks_parsers_or_databases_is_no_token() -> None:
    by_name = Order("name", FIELDS, TABLE.c.id, TABLE.c.time)

    def read(raw: str) -> list[object]:
        return read_token(base64.urlsafe_b64encode(raw.encode()).decode(), "bound", by_name)

    assert read('["bound", [0, "a", "b"]]') == [0, "a", "b"]
    for raw in ('["bound", [0, "\\ud800", "b"]]', "[" * 50_000, "1" * 5000):
        with pytest.raises(Invalid):
            read(raw)


def test_an_unpaired_surrogate_is_no_value() -> None:
    with pytest.raises(Invalid):
        parse_filter(r'name = "\ud800"', FIELDS)


def test_values_are_never_part_of_the_statement() -> None:
    (condition,) = parse_filter("""name = "x'; DROP TABLE t" """, FIELDS)
    assert "DROP" not in str(condition.compile())


def test_the_refusal_names_what_is_allowed() -> None:
    with pytest.raises(Invalid, match=r"names 'secret'.*count, id, name, on, score, time"):
        parse_filter("secret = 1", FIELDS)


def test_page_sizes_are_50_at_first_and_1000_at_most() -> None:
    assert PageQuery().limit == 50
    assert PageQuery(page_size=1000).limit == 1000
    with pytest.raises(Invalid):
        _ = PageQuery(page_size=1001).limit


def test_a_token_of_another_kind_of_value_is_refused() -> None:
    order = Order("", FIELDS, TABLE.c.id, TABLE.c.time)
    for values in ([1, "id"], ["2026", 3], ["x"], ["never", "id"], ["2026-01-01T00:00:00+00:00", "a\0"]):
        with pytest.raises(Invalid):
            read_token(make_token("bound", values), "bound", order)
