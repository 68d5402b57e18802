"""Claims about the grammar of --variant and --tune."""

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aleator.commands import flags
from aleator.commands.variants import split, tuned, variants


@dataclass(frozen=True)
class Source:
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    model: Literal["mlp", "cnn"] = "mlp"
    batch_size: int = 32
    lr: float = 0.1
    size: int | None = None
    hidden: tuple[int, ...] = (64, 64)
    names: tuple[str, ...] = ()
    text: str = ""
    flip: bool = False
    data: Source = field(default_factory=Source)

    def __post_init__(self) -> None:
        if self.model == "cnn" and self.batch_size > 100:
            raise ValueError(f"batch_size must be at most 100 with the cnn, got {self.batch_size}")


def of(*texts: str, base: Recipe | None = None) -> list:
    return variants(base or Recipe(), texts)


def refusal(call, *args) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_variant_is_the_base_with_the_named_fields_changed():
    plain, changed = of("plain", "changed:model=cnn,batch-size=64,lr=1e-3", base=Recipe(lr=0.5))
    assert (plain.name, plain.recipe, plain.changed) == ("plain", Recipe(lr=0.5), {})
    assert changed.recipe == Recipe(model="cnn", batch_size=64, lr=1e-3)
    assert changed.changed == {"model": "cnn", "batch_size": 64, "lr": 1e-3}


def test_the_name_ends_at_the_first_colon():
    (variant,) = of("a b:text=x:y")
    assert (variant.name, variant.recipe.text) == ("a b", "x:y")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v:hidden=[1,2,3],lr=2", Recipe(hidden=(1, 2, 3), lr=2.0)),
        ("v:hidden=(1, 2)", Recipe(hidden=(1, 2))),
        ("v:hidden=7", Recipe(hidden=(7,))),
        ("v:hidden=[]", Recipe(hidden=())),
        ("v:names=['a,b',c]", Recipe(names=("a,b", "c"))),
        ('v:text="a,b",lr=2', Recipe(text="a,b", lr=2.0)),
        ("v:text=", Recipe(text="")),
        ("v:text=a=b", Recipe(text="a=b")),
        ("v:text=--x", Recipe(text="--x")),
        ("v:text=f(a,b)", Recipe(text="f(a,b)")),
        ("v:lr=-1", Recipe(lr=-1.0)),
        ("v:size=None", Recipe()),
        ("v:flip=True", Recipe(flip=True)),
        ("v:data.files=[a,b]", Recipe(data=Source(("a", "b")))),
        ("v:", Recipe()),
    ],
)
def test_values(text, expected):
    assert of(text)[0].recipe == expected


def test_a_value_means_what_it_means_behind_the_flag():
    for name, value in (("lr", "1e-4"), ("size", "10"), ("model", "cnn"), ("text", "x y"), ("batch_size", "8")):
        on_the_command_line = flags.parse({"recipe": Recipe}, [f"--{name}", value], prog="x")[0]
        assert of(f"v:{name}={value}")[0].recipe == on_the_command_line


def test_fields_that_only_work_together_are_checked_together():
    base = Recipe(model="mlp", batch_size=200)
    assert of("v:batch_size=50,model=cnn", base=base)[0].recipe == Recipe(model="cnn", batch_size=50)
    line = refusal(variants, base, ["v:model=cnn"])
    assert line == "variant 'v': batch_size must be at most 100 with the cnn, got 200"


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        ([], "--variant is missing: a comparison needs at least one --variant NAME[:FIELD=VALUE,…]"),
        ([":lr=1"], "--variant ':lr=1' has no name, write NAME[:FIELD=VALUE,…]"),
        (["lr=1"], "--variant 'lr=1' has no name before its first field, write NAME:lr=1"),
        (["v:lr"], "variant 'v': 'lr' is not FIELD=VALUE"),
        (["v:lr=1,"], "variant 'v': '' is not FIELD=VALUE"),
        (["v:lr=x"], "variant 'v': --lr must be a number, got 'x'"),
        (["v:lr=1,lr=2"], "variant 'v': --lr is given twice"),
        (["v:model=cn"], "variant 'v': --model must be one of mlp, cnn, got 'cn'; did you mean 'cnn'?"),
        (["v:flip=yes"], "variant 'v': --flip must be True or False, got 'yes'"),
        (["v:hidden=[1"], "variant 'v': ']' is missing in 'hidden=[1'"),
        (["v:hidden=1]"], "variant 'v': unexpected ']' in 'hidden=1]'"),
        (["v:text='a"], "variant 'v': \"'\" is missing in \"text='a\""),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_variant(texts, line):
    assert refusal(variants, Recipe(), texts) == line


def test_an_unknown_field_is_named_with_the_closest_and_all_others():
    line = refusal(variants, Recipe(), ["v:batchsize=1"])
    assert line == (
        "variant 'v': unknown field 'batchsize'; did you mean 'batch_size'? "
        "(fields: batch_size, data.files, flip, hidden, lr, model, names, size, text)"
    )


def test_tune_reads_values_of_the_field():
    assert tuned(Recipe(), "batch-size=8,16") == ("batch_size", [8, 16])
    assert tuned(Recipe(), "hidden=[1,2],[3]") == ("hidden", [(1, 2), (3,)])
    assert tuned(Recipe(), "flip=True,False") == ("flip", [True, False])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lr", "--tune must be FIELD=V1,V2,…, got 'lr'"),
        ("lr=", "--tune must be FIELD=V1,V2,…, got 'lr='"),
        ("lr=1,x", "--tune: --lr must be a number, got 'x'"),
    ],
)
def test_a_tune_that_does_not_fit(text, line):
    assert refusal(tuned, Recipe(), text) == line


def test_tune_takes_no_nested_field():
    assert refusal(tuned, Recipe(), "data.files=a").startswith("--tune: unknown field 'data.files'")


@given(st.lists(st.text("ab=:[](){}'\" ,", max_size=6), min_size=1, max_size=4))
def test_split_gives_back_quoted_parts(parts):
    quoted = [f'"{part}"' for part in parts if '"' not in part]
    if quoted:
        assert split(",".join(quoted)) == quoted
