"""What an amount of something costs. Pure: domains import it.

Amounts are decimals with nine places, as `modelry.common.v1.Money` has them.
"""

from decimal import ROUND_HALF_UP, Decimal

ZERO = Decimal(0)
_PLACES = Decimal("0.000000001")


def cost_of(quantity: float, unit_price: Decimal) -> Decimal:
    """Return quantity times price, to nine places, half up: what the ledger books and what is shown."""
    # By its shortest digits: 0.1 of something at 3 costs 0.3, not 0.3000000000000000166.
    return (Decimal(repr(quantity)) * unit_price).quantize(_PLACES, ROUND_HALF_UP)
