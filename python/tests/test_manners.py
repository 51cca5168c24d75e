"""Interrupts, threads, forks, memory, and what importing costs: each in a real process."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import BASE, SOURCE

import headlight as hl
from headlight import _progress

# some seconds of work: many prompts, of which nothing is shared
LONG = """
import time, headlight as hl
model = hl.Model("demo", device="cpu")
rows = [{"base": [i, 285, 263, 700, 261], "source": [i + 1, 285, 263, 751, 261], "targets": [1]} for i in range(900)]
"""


def hears_interrupts() -> None:
    """Whatever the tests' own parent ignores, as a shell has what it starts in the background ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def python(code: str, **more: object) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], preexec_fn=hears_interrupts, **pipes, **more)


def test_an_interrupt_ends_it_at_once_and_leaves_the_model_well():
    code = LONG + (
        "tell = lambda p: p.done and print('go', flush=True)\n"
        "try:\n    model.sweep(data=rows, progress=tell)\nexcept KeyboardInterrupt:\n    end = time.time()\n"
        "some = model.unfinished()\n"
        "print(end, some.n_runs == len(some) > 0, model.unfinished(), len(model.sweep(targets=' Rome')), flush=True)\n"
    )
    took = []
    for turn in range(4):  # others may keep the machine busy
        process = python(code)
        assert process.stdout.readline() == "go\n"
        time.sleep(turn / 30)
        sent = time.time()
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        end, *rest = [word for word in out.split() if word != "go"]
        assert rest == ["True", "None", "200"] and error == ""
        took.append(float(end) - sent)
    assert min(took) < 0.2, took


TEXTS = "text = ['The capital of Spain is'] * 30000\n"
IDS = "base, source = [r['base'] for r in rows], [r['source'] for r in rows]\n"

# what takes some seconds, of every kind
LASTS = {
    "call": TEXTS + "ask = lambda: model(text, positions='all')",
    "run_with_cache": TEXTS + "ask = lambda: model.run_with_cache(text)",
    "attribute": "ask = lambda: model.attribute(data=rows, method='eap-ig-activations')",
    "attribute nodes": "ask = lambda: model.attribute(of='nodes', data=rows, method='relp')",
    "attribute verified": "ask = lambda: model.attribute(data=rows, verify_top=300)",
    "lens": TEXTS + "ask = lambda: model.lens(text, targets=' Madrid')",
    "direct_logit_attribution": TEXTS + "ask = lambda: model.direct_logit_attribution(text, targets=' Madrid')",
    "a preset's function": IDS
    + "from headlight import patching\n"
    + "ask = lambda: patching.get_act_patch_attn_head_by_pos_every(model, base, source, lambda l: float(l[0, -1, 3]))",
    "edges": "ask = lambda: model.edges(data=rows)",
    "acdc": "ask = lambda: model.acdc(data=rows, threshold=0.001)",
    "a sweep of texts": TEXTS + "ask = lambda: model.sweep(text, 'The capital of Italy is')",
}


@pytest.mark.parametrize("what", LASTS)
def test_whatever_lasts_is_interrupted_at_once(what):
    code = LONG + LASTS[what] + (
        "\nprint('go', flush=True)\ntry:\n    ask()\nexcept KeyboardInterrupt:\n    print(time.time(), flush=True)\n"
        "print(model.topk('The capital of Spain is', 1)[0][0], flush=True)\n"
    )  # fmt: skip
    took = []
    for turn in range(4):  # others may keep the machine busy
        process = python(code)
        assert process.stdout.readline() == "go\n"
        time.sleep(0.7 + turn / 5)
        sent = time.time()
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        end, *rest = out.split()
        # the model is well, and is asked once what was under way is over
        assert rest == ["Madrid"]
        took.append(float(end) - sent)
        if took[-1] < 0.2:
            return
    raise AssertionError(took)


def test_the_command_is_interrupted_as_it_is_elsewhere(tmp_path):
    pair = {"source_ids": [1, 285, 263, 751, 261], "target_ids": [1]}
    rows = [{"base_ids": [i, 285, 263, 700, 261], **pair} for i in range(2, 400)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    line = [sys.executable, "-m", "headlight", "sweep", "--data", "rows.json", "--device", "cpu", "--out", "out.csv"]
    process = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr.readline().startswith("device: cpu")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "headlight: interrupted; nothing was written\n")
    assert not (tmp_path / "out.csv").exists()


def test_another_thread_cancels(model):
    code = LONG + (
        "import threading\n"
        "def ask():\n    try:\n        model.sweep(data=rows)\n    except hl.Interrupted as error:\n        print(error.kind, flush=True)\n"
        "thread = threading.Thread(target=ask)\nthread.start()\ntime.sleep(0.5)\nmodel.cancel()\nthread.join(1)\nprint(thread.is_alive())\n"
    )
    out, error = python(code).communicate(timeout=60)
    assert out.split() == ["interrupted", "False"], error


def test_progress_is_told(model):
    told = []
    rows = [{"base": [i, 285, 263, 700, 261], "source": [i + 1, 285, 263, 751, 261], "targets": [1]} for i in range(40)]
    model.sweep(data=rows, progress=told.append)
    assert told and told[-1].total == 40 * 200 and all(a.done <= b.done for a, b in itertools.pairwise(told))

    def fails(progress):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        model.sweep(data=rows, progress=fails)


ROWS = [
    {"base": [i, 285, 263, 700, 261], "source": [i + 1, 285, 263, 751, 261], "targets": [1], "wrong_targets": [2]}
    for i in range(300)
]

# everything that may last, with what it counts
TOLD = {
    "attribute": (lambda m, **more: m.attribute(data=ROWS, **more), "runs"),
    "attribute nodes": (lambda m, **more: m.attribute(of="nodes", data=ROWS, method="relp", verify_top=5, **more), "runs"),
    "acdc": (lambda m, **more: m.acdc(data=ROWS[:15], threshold=0.001, **more), "edges"),
    "evaluate": (lambda m, **more: chosen(m).evaluate(data=ROWS, **more), "runs"),
    "curve": (lambda m, **more: chosen(m).curve(data=ROWS[:60], **more), "runs"),
    "logits": (lambda m, **more: m([row["base"] for row in ROWS] * 8, positions="all", **more), "prompts"),
    "run_with_cache": (lambda m, **more: m.run_with_cache([row["base"] for row in ROWS] * 8, **more), "prompts"),
    "edges": (lambda m, **more: m.edges(data=ROWS[:20], **more), "runs"),
}  # fmt: skip


def chosen(model):
    return model.attribute(data=ROWS[:2]).graph().greedy(50)


@pytest.mark.parametrize("what", TOLD)
def test_whatever_lasts_tells_how_far_it_is(model, what):
    ask, unit = TOLD[what]
    told = []
    ask(model, progress=told.append)
    known = [p for p in told if p.total]
    assert known and len({p.total for p in known}) == 1 and {p.unit for p in told} == {unit}
    assert all(a.done <= b.done <= b.total for a, b in itertools.pairwise(known)) and known[-1].done > 0


def test_an_engines_count_begins_anew_with_each_question(model):
    firsts = []
    for _ in range(2):
        told = []
        TOLD["evaluate"][0](model, progress=told.append)
        firsts.append(next(p for p in told if p.total))
    assert firsts[0].total == firsts[1].total > firsts[1].done


@pytest.mark.parametrize("what", ["attribute", "edges"])
def test_a_bar_is_drawn_where_somebody_watches(model, what, monkeypatch, capsys):
    ask, unit = TOLD[what]
    monkeypatch.setattr(_progress, "_is_watched", lambda: True)
    monkeypatch.setattr(_progress, "_PATIENCE", 0.0)
    ask(model)
    error = capsys.readouterr().err
    assert unit.removesuffix("s") in error or "it/s" in error, error
    ask(model, progress=False)
    assert capsys.readouterr().err == ""


def test_eight_threads_on_one_model(model):
    alone = model.sweep(BASE, SOURCE, targets=" Rome")["prob"]
    found = [None] * 8

    def ask(at):
        found[at] = [model.sweep(BASE, SOURCE, targets=" Rome")["prob"] for _ in range(3)]

    threads = [threading.Thread(target=ask, args=[at]) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert all(np.array_equal(prob, alone) for each in found for prob in each)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_says_so(model):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            model.sweep(targets=" Rome")
            said = "nothing"
        except RuntimeError as error:
            said = str(error)
        os.write(write, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert "before the process forked" in os.read(read, 1000).decode()


def test_importing_is_quick_and_brings_nothing_along():
    code = (
        "import sys, numpy, time\nstart = time.process_time()\nimport headlight\n"
        "print(time.process_time() - start, [m for m in ('torch', 'pandas', 'plotly', 'polars', 'pyarrow') if m in sys.modules])"
    )
    runs = [python(code).communicate(timeout=60)[0].split(maxsplit=1) for _ in range(3)]
    assert all(modules.strip() == "[]" for _, modules in runs)
    assert min(float(seconds) for seconds, _ in runs) < 0.15


def test_nothing_is_printed():
    out, error = python("import headlight as hl\nhl.Model('demo').sweep(targets=' Rome')").communicate(timeout=60)
    assert (out, error) == ("", "")


def test_hundreds_of_sweeps_leave_memory_flat(model):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not os.path.exists("/proc/self/statm"):
        pytest.skip("no /proc here")
    patch = hl.Patch("head_value_output", 0, heads=0, positions=3)

    def some(count):
        for _ in range(count):
            model.patch(BASE, patch, source=SOURCE, targets=" Rome")["prob"]
            model.sweep(BASE, SOURCE, targets=" Rome", components="mlp_output")

    some(100)
    before = resident()
    some(300)
    assert resident() - before < 2 << 20


def test_the_command_is_installed_with_the_package(command):
    done = command("topk", BASE, "-n", "1")
    assert done.stdout.startswith("_Madrid") and done.returncode == 0
    assert command("topk").returncode == 2
    assert command("--version").stdout.startswith("headlight 0.1.0")
