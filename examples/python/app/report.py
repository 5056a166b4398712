"""The report: money in `decimal`, dates in `datetime`, and a digest that lets a
reader check that two reports are the same. Knows nothing of HTTP."""

import base64
import csv
import hashlib
import io
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

CENT = Decimal("0.01")
# Euros buy this much; a fixed table keeps the report reproducible.
RATES = {"EUR": Decimal("1"), "USD": Decimal("1.0842"), "GBP": Decimal("0.8391"), "SEK": Decimal("11.2760")}
FIRST_DAY = date(2026, 1, 5)
ORDERS = 240
PRODUCTS = {"lamp": Decimal("49.90"), "chair": Decimal("129.00"), "desk": Decimal("349.50"), "rug": Decimal("89.95")}


class BadQuery(Exception):
    """The query asks for something that does not exist; the text says what."""


@dataclass(frozen=True)
class Order:
    """One line of the order book."""

    number: int
    day: date
    product: str
    pieces: int
    total: Decimal


def orders(query: dict[str, str]) -> list[Order]:
    """The order book, made from a digest so that every VM has the same one."""
    rate = RATES.get(query.get("currency", "EUR").upper())
    if rate is None:
        raise BadQuery(f"currency is one of {', '.join(RATES)}")
    since = FIRST_DAY
    if "since" in query:
        try:
            since = date.fromisoformat(query["since"])
        except ValueError as error:
            raise BadQuery("since is a date like 2026-01-31") from error
    book = (order(number, rate) for number in range(1, ORDERS + 1))
    return [order for order in book if order.day >= since]


def order(number: int, rate: Decimal) -> Order:
    dice = hashlib.sha256(f"order {number}".encode()).digest()
    product = list(PRODUCTS)[dice[0] % len(PRODUCTS)]
    pieces = dice[1] % 5 + 1
    total = (PRODUCTS[product] * pieces * rate).quantize(CENT, ROUND_HALF_EVEN)
    return Order(number, FIRST_DAY + timedelta(days=number // 3), product, pieces, total)


def summary(query: dict[str, str]) -> dict:
    """Totals by product and by ISO week, and what is typical."""
    book = orders(query)
    by_product: defaultdict[str, Decimal] = defaultdict(Decimal)
    by_week: defaultdict[str, Decimal] = defaultdict(Decimal)
    for entry in book:
        by_product[entry.product] += entry.total
        year, week, _ = entry.day.isocalendar()
        by_week[f"{year}-W{week:02}"] += entry.total
    totals = [entry.total for entry in book] or [Decimal(0)]
    digest = hashlib.blake2b("".join(repr(entry) for entry in book).encode(), digest_size=12).digest()
    return {
        "currency": query.get("currency", "EUR").upper(),
        "orders": len(book),
        "total": str(sum(totals)),
        "median": str(statistics.median(totals).quantize(CENT)),
        "spread": str(statistics.pstdev(totals).quantize(CENT)),
        "by_product": {name: str(total) for name, total in sorted(by_product.items())},
        "best_week": max(by_week, key=by_week.__getitem__, default=None),
        "digest": base64.b32encode(digest).decode().rstrip("="),
    }


def rows(query: dict[str, str]) -> Iterator[bytes]:
    """The same orders as CSV, the heading first."""
    book = orders(query)  # before the first byte, so that a bad query is still an error

    def lines() -> Iterator[bytes]:
        line = io.StringIO()
        writer = csv.writer(line)
        for cells in [list(Order.__annotations__), *(asdict(entry).values() for entry in book)]:
            writer.writerow(cells)
            yield line.getvalue().encode()
            line.seek(0)
            line.truncate()

    return lines()
