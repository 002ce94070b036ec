"""One rule and one sentence for names and metadata."""

import pytest

from services.access.domain.keys import CreateKey
from services.access.domain.projects import Project
from services.chassis.clock import now
from services.chassis.errors import Invalid
from services.chassis.names import CreateNamed, UpdateLabels, check_metadata, check_name

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", ["", "Upper", "-a", "a b", "a" * 64, "ds-1", "dsv-1", "a/b"])
def test_wrong_names_are_refused_with_their_field(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_name(name, "dataset.name", ("ds-", "dsv-"))
    assert (caught.value.field, caught.value.reason) == ("dataset.name", "INVALID_NAME")
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize("name", ["a", "0", "support.desk_v-2", "a" * 63])
def test_names(name: str) -> None:
    check_name(name, "dataset.name", ("ds-", "dsv-"))


@pytest.mark.parametrize("metadata", [{str(n): "" for n in range(17)}, {"": "x"}])
def test_metadata_is_so_many_pairs_with_a_key(metadata: dict[str, str]) -> None:
    with pytest.raises(Invalid) as caught:
        check_metadata(metadata, "job.")
    assert caught.value.field == "job.metadata"


def test_every_service_says_the_same_of_a_wrong_name() -> None:
    """Access, training and the data sets had sentences of their own."""
    said = set()
    for refused in (
        lambda: check_name("A b", "x"),
        lambda: Project.create("proj-1", "A b", "", {}, now()),
        lambda: CreateKey(name="A b").make("key-1", "proj-1", "mk-" + "s" * 40, now()),
    ):
        with pytest.raises(Invalid) as caught:
            refused()
        said.add((caught.value.message, caught.value.reason))
    assert len(said) == 1


def test_an_update_changes_what_is_given_and_refuses_it_by_name() -> None:
    assert UpdateLabels("proj-1", "one", title="").changes("job.") == {"title": ""}
    assert UpdateLabels("proj-1", "one", metadata={}).changes("job.") == {"metadata": {}}
    with pytest.raises(Invalid) as caught:
        UpdateLabels("proj-1", "one", metadata={"": "x"}).changes("job.")
    assert caught.value.field == "job.metadata"


@pytest.mark.parametrize(
    ("name", "key", "field"),
    [("Upper", "a", "model.name"), ("mv-1", "a", "model.name"), ("a", "", "model.metadata")],
)
def test_a_creation_names_what_is_wrong(name: str, key: str, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        CreateNamed("proj-1", name, "", {key: "x"}, "", "").check("model.", ("mdl-", "mv-"))
    assert caught.value.field == field
