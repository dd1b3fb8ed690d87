"""Jobs in arrays: every task is submitted once, after what it needs, in as few arrays as that takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.job import Task
from holdfast.execute.arrays import Array, divide


def task(name: str, *needs: str, gpus: int = 0) -> Task:
    wants = tuple({"home": need, "key": need, "path": ""} for need in needs)
    return Task(key=name, name=name, home=name, exclusive=True, needs=wants, gpus=gpus)


def shape(arrays: list[Array]) -> list[tuple[list[str], object]]:
    """Names and what they wait for, an entry an array."""
    return [([each.name for each in array.tasks.values()], array.beside or array.after) for array in arrays]


def test_sweep_is_one_array_until_it_is_too_large_for_one() -> None:
    points = [task(f"p{number}") for number in range(25)]
    assert [len(array.tasks) for array in divide(points, 100)] == [25]
    chunks = divide(points, 10)
    assert [len(array.tasks) for array in chunks] == [10, 10, 5]
    assert all(max(array.tasks) < 10 for array in chunks)


def test_each_of_many_evaluations_waits_for_its_own_training_alone() -> None:
    trainings = [task(f"t{number}") for number in range(25)]
    evaluations = [task(f"e{number}", f"t{number}") for number in range(25) if number != 3]
    arrays = divide([*evaluations, *trainings], 10)
    assert [array.beside for array in arrays] == [None, None, None, 1, 2, 3]
    for array in arrays[3:]:
        suppliers = arrays[(array.beside or 0) - 1].tasks
        assert all(suppliers[index].name == each.needs[0]["key"] for index, each in array.tasks.items())


def test_many_evaluations_of_few_conversions_are_an_array_for_each_conversion() -> None:
    conversions = [task("c0"), task("c1")]
    evaluations = [task(f"e{number}-{c}", f"c{c}") for number in range(5) for c in (0, 1)]
    arrays = divide([*conversions, *evaluations], 100)
    assert shape(arrays)[1:] == [
        ([f"e{number}-0" for number in range(5)], ((1, 0),)),
        ([f"e{number}-1" for number in range(5)], ((1, 1),)),
    ]


def test_tasks_that_want_other_resources_are_another_array() -> None:
    arrays = divide([task("big", gpus=8), task("small"), task("large", gpus=8)], 100)
    assert shape(arrays) == [(["big", "large"], ()), (["small"], ())]


def test_task_waits_for_what_another_job_is_at() -> None:
    (array,) = divide([task("e", "elsewhere")], 100, {"elsewhere": "77_3"})
    assert array.outside == ("77_3",)


@st.composite
def graphs(draw: st.DrawFn) -> list[Task]:
    count = draw(st.integers(1, 30))
    tasks = []
    for number in range(count):
        needs = draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else []
        tasks.append(task(f"t{number}", *(f"t{need}" for need in needs), gpus=draw(st.integers(0, 1))))
    return list(draw(st.permutations(tasks)))


@given(graphs(), st.integers(1, 10))
def test_every_task_is_submitted_once_and_waits_for_exactly_what_it_needs(tasks: list[Task], largest: int) -> None:
    arrays = divide(tasks, largest)
    assert sorted(each.key for array in arrays for each in array.tasks.values()) == sorted(each.key for each in tasks)
    places = {key: place for array in arrays for key, place in array.places().items()}
    for array in arrays:
        assert max(array.tasks) < largest
        for index, each in array.tasks.items():
            wanted = {places[need["key"]] for need in each.needs}
            waits = {(array.beside, index)} if array.beside is not None else set(array.after)
            assert waits == wanted
            assert all(number < array.number for number, _ in wanted)
