"""The promise of the first two minutes: a result that is real, survives kill -9 of everything, and is not made twice."""

import os
import re
import subprocess
import sys
import time
import venv
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.train, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def holdfast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command as installed from the built wheel, outside the repository; other packages come from this
    environment.
    """
    place = tmp_path_factory.mktemp("wheel")
    build = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(place),
        str(REPOSITORY),
    ]
    subprocess.run([sys.executable, *build], check=True)
    venv.create(place / "venv", with_pip=False)
    (site,) = (place / "venv" / "lib").glob("python*/site-packages")
    (wheel,) = place.glob("holdfast-*.whl")
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--prefix", str(place / "venv"), str(wheel)]
    subprocess.run([sys.executable, *install], check=True)
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (site / "zz_borrowed.pth").write_text("\n".join(packages) + "\n")
    python = place / "venv" / "bin" / "python"
    command = place / "venv" / "bin" / "holdfast"
    command.write_text(
        f"#!/bin/sh\nexec {python} -c 'import sys; from holdfast.cli.main import main; sys.exit(main())' \"$@\"\n"
    )
    return command


def start(holdfast: Path, root: Path, *arguments: str) -> subprocess.Popen[str]:
    home = root.parent / "home"
    home.mkdir(exist_ok=True)
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("HOLDFAST_", "PYTHONPATH", "OMP_"))
    }
    return subprocess.Popen(
        [str(holdfast), "quickstart", "--root", str(root), *arguments],
        env={**inherited, "HOME": str(home), "HF_HUB_OFFLINE": "1"},
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_everything(root: Path) -> None:
    """kill -9 of all that works for this root: the command, runners, supervisors, stages, engines."""
    for process in psutil.process_iter():
        try:
            mine = any(str(root) in argument for argument in process.cmdline()) or process.environ().get(
                "HOLDFAST_ROOT"
            ) == str(root)
        except psutil.Error:
            continue
        if mine and process.pid != os.getpid():
            process.kill()


def wait_until(condition: object, process: subprocess.Popen[str], seconds: float = 600) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def table_of(output: str) -> str:
    return output.partition("\n\n")[0]


def lower_bound(output: str) -> float:
    found = re.search(r"paired gain of 2 runs .*95% interval ([+-][\d.]+) to", output)
    assert found, output
    return float(found[1])


def test_quickstart_learns_survives_kills_and_is_not_done_twice(holdfast: Path, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    moments = {
        "the base model is half made": lambda: (root / "quickstart-base" / "metrics.jsonl").exists(),
        "a run has a checkpoint": lambda: any(root.glob("training_runs/*/training_state/step_25")),
        "rows are coming in": lambda: len(list(root.glob(".holdfast/collections/*/parts/*.jsonl"))) >= 3,
        "the runs were resumed": lambda: (
            any(root.glob(".holdfast/stages/*/attempts/00[2-9]/progress.json"))
            and len(list(root.glob("evals/*/metrics.json"))) >= 5
        ),
    }
    for moment in moments.values():
        process = start(holdfast, root, "--seeds", "3,4")
        wait_until(moment, process)
        kill_everything(root)
        process.communicate()
    output, errors = start(holdfast, root).communicate()
    assert lower_bound(output) > 0, errors
    assert (root / "quickstart.png").stat().st_size > 10_000

    again = start(holdfast, root)
    repeated, _ = again.communicate()
    assert again.returncode == 0
    assert table_of(repeated) == table_of(output)
    assert "16 of 16 stages were complete before and reused, 0 were done now" in repeated


@pytest.mark.soak
@pytest.mark.skipif("HOLDFAST_SOAK" not in os.environ, reason="make soak: minutes per repetition")
@pytest.mark.parametrize("repetition", range(10))
def test_quickstart_gains_whatever_the_seeds(holdfast: Path, tmp_path: Path, repetition: int) -> None:
    output, errors = start(holdfast, tmp_path / "runs").communicate()
    assert lower_bound(output) > 0, (repetition, output, errors)
