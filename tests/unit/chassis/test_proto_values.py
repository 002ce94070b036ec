"""Costs are rounded one way, and money, times and failures pass through messages unchanged."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from modelry.common.v1 import common_pb2
from modelry.serving.v1 import serving_pb2
from services.chassis.errors import Invalid
from services.chassis.money import cost_of
from services.chassis.proto_values import amount_of, datetime_of, failure_of, message_of, money_of, timestamp_of
from services.chassis.transitions import Failure, FailureKind
from services.evaluation.domain import Evaluation
from services.serving.domain.entities import Deployment, State
from services.training.domain import Job
from tests.unit.serving.made import adapter, deployment

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 24, 1, 2, 3, 456789, UTC)


@pytest.mark.parametrize(
    ("quantity", "price", "cost"),
    [
        (2.5, "3", "7.5"),
        (0.1, "3", "0.3"),  # not 0.30000000000000001665
        (1e-9, "0.5", "0.000000001"),  # half a billionth, half up
        (1e-9, "2.5", "0.000000003"),  # half even would give 2
        (123456, "0.00000015", "0.0185184"),
        (0, "5", "0"),
    ],
)
def test_cost_is_quantity_times_price_to_nine_places_half_up(quantity: float, price: str, cost: str) -> None:
    assert cost_of(quantity, Decimal(price)) == Decimal(cost)


@pytest.mark.parametrize("entity", [Job, Evaluation])
def test_the_cost_shown_of_a_job_is_rounded_as_the_ledger_rounds_it(entity: type[Job] | type[Evaluation]) -> None:
    price = Decimal("0.000000005")
    job = entity(id="x", project="p", create_time=NOW, update_time=NOW, unit_price=price)
    # 6 s are 0.1 minutes: half a billionth, booked as a whole one; half even showed 0.
    assert job.cost(6) == cost_of(6 / 60, price) == Decimal("0.000000001")


def test_the_cost_shown_of_a_deployment_is_rounded_as_the_ledger_rounds_it() -> None:
    deployment = Deployment.__new__(Deployment)
    vars(deployment).update(used_hours=0.1, unit_price=Decimal("0.000000005"))
    assert deployment.cost == Decimal("0.000000001")


@pytest.mark.parametrize("amount", ["0", "12.34", "0.000000001", "-0.5", "-3.25", "999999999999999.999999999"])
def test_money_survives_its_message(amount: str) -> None:
    message = money_of(Decimal(amount))
    assert message is not None
    assert amount_of(message, "amount") == Decimal(amount)
    assert message.units * message.nanos >= 0


@pytest.mark.parametrize("parts", [{"units": 1, "nanos": -1}, {"units": -1, "nanos": 1}, {"nanos": 1_000_000_000}])
def test_money_that_is_none_is_refused_with_its_field(parts: dict[str, int]) -> None:
    with pytest.raises(Invalid) as caught:
        amount_of(common_pb2.Money(**parts), "job.max_cost")
    assert caught.value.field == "job.max_cost"


def test_a_moment_survives_its_message() -> None:
    message = timestamp_of(NOW)
    assert message is not None and datetime_of(message, "t") == NOW


def test_a_moment_outside_of_the_calendar_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        datetime_of(Timestamp(seconds=2**50), "api_key.expire_time")
    assert caught.value.field == "api_key.expire_time"


def test_what_is_none_stays_unset() -> None:
    assert (timestamp_of(None), money_of(None), failure_of(None)) == (None, None, None)


def test_a_failure_says_whose_doing_it_is() -> None:
    message = failure_of(Failure("BAD_ROWS", "Row 1 is empty.", FailureKind.USER))
    assert message == common_pb2.Failure(reason="BAD_ROWS", message="Row 1 is empty.", kind=common_pb2.Failure.USER)


def test_an_entity_is_shown_by_the_names_of_its_fields() -> None:
    failing = deployment(
        failure=Failure("R", "m", FailureKind.USER), adapters=(adapter(ready=True),), max_cost=Decimal("1.5"),
        first_ready_time=NOW, metadata={"team": "a"}, state=State.FAILING,
    )  # fmt: skip
    assert message_of(serving_pb2.Deployment, failing, etag="7") == serving_pb2.Deployment(
        id=failing.id,
        name=failing.name,
        etag="7",
        metadata={"team": "a"},
        state=serving_pb2.Deployment.FAILING,
        model=failing.model,
        model_version_id=failing.model_version_id,
        replicas=1,
        ready_replicas=0,
        engine=serving_pb2.EngineOptions(max_model_length=2048, kv_cache_gib=1.0),
        accepts_adapters=True,
        adapter_mode=serving_pb2.Deployment.AUTO,
        billing=serving_pb2.Deployment.DEDICATED,
        adapters=[
            serving_pb2.Deployment.Adapter(
                model_version_id="mv-tuned", fine_tuned_name="ft:tiny:default:help:12345678", ready=True
            )
        ],
        key_claimable=True,
        cost=money_of(failing.cost),
        max_cost=money_of(Decimal("1.5")),
        version=1,
        failure=failure_of(failing.failure),
        create_time=timestamp_of(failing.create_time),
        first_ready_time=timestamp_of(NOW),
    )
