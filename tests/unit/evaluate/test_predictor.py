from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_bundles import tiny_bundle
from tests.tiny_models import SENTENCES
from tunefleet.api.errors import MachineError
from tunefleet.evaluate.inputs import InputError
from tunefleet.evaluate.predictor import Predictor, choose_device


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.open(tiny_bundle(tmp_path_factory.mktemp("made")), device="cpu")


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_answers_come_in_the_order_of_the_items(predictor: Predictor, batch_size: int) -> None:
    texts = [text[: 5 + 7 * (index % 4)] for index, text in enumerate(SENTENCES * 2)]
    answers = predictor.predict([{"text": text} for text in texts], batch_size)
    alone = [predictor.predict([{"text": text}])[0] for text in texts]
    assert [answer["label"] for answer in answers] == [answer["label"] for answer in alone]
    for answer, other in zip(answers, alone, strict=True):
        assert answer["score"] == pytest.approx(other["score"], abs=1e-5)


def test_progress_counts_up_to_all_items(predictor: Predictor) -> None:
    seen: list[tuple[int, int]] = []
    predictor.predict(
        [{"text": text} for text in SENTENCES],
        4,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_nothing_asked_is_nothing_answered(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_a_bad_item_does_not_take_its_neighbours_with_it(predictor: Predictor) -> None:
    good = {"text": SENTENCES[0]}
    answers = predictor.answer([good, {"text": 5}, good, {"other": "x"}])
    assert [type(answer) for answer in answers] == [dict, InputError, dict, InputError]
    told = answers[1]
    assert isinstance(told, InputError)
    assert told.index == 1
    assert not told.problem.message.startswith("item")


def test_the_first_bad_item_is_told(predictor: Predictor) -> None:
    with pytest.raises(InputError, match="item 1: text: must not be empty"):
        predictor.predict([{"text": "a"}, {"text": ""}])


def test_a_chat_that_ends_with_an_answer_is_told(tmp_path: Path) -> None:
    options: dict[str, object] = {"format": "chat", "maxNewTokens": 2}
    folder = tiny_bundle(tmp_path, task_name="causal-lm", options=options, labels=())
    predictor = Predictor.open(folder, device="cpu")
    asked = {"role": "user", "content": "hello"}
    said = {"role": "assistant", "content": "hi"}
    answers = predictor.answer([{"messages": [asked]}, {"messages": [asked, said]}])
    assert isinstance(answers[0], dict)
    assert isinstance(answers[1], InputError)
    assert "ends with an answer" in answers[1].problem.message


@pytest.mark.parametrize("name", ["tpu9", "mps:7:7", "cuda:99x"])
def test_a_device_that_does_not_exist_is_told(name: str) -> None:
    with pytest.raises(MachineError):
        choose_device(name)
