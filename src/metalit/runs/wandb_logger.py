"""The Weights & Biases logger of a run: a copy of its run folder, which the run itself never depends on."""

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from lightning.fabric.loggers.logger import _DummyExperiment, rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from metalit.runs.versions import code_version
from metalit.runs.wandb_files import (
    RESULTS_FILE,
    files_of,
    is_synced,
    media_of,
    parts_of,
    set_aside,
    summary_of,
)
from metalit.runs.wandb_mode import Mode, choose_mode
from metalit.runs.wandb_record import RunRecord

STEP = "trainer/global_step"  # Lightning's name for it, and the horizontal axis of every curve
LIMITS = {  # seconds
    "init_timeout": 30,  # for a server that answers to open the run
    "finish_timeout": 300,  # to take what is left at the end; what it does not take stays in the run folder
}


class WandbLogger(LightningWandbLogger):
    """Logs a run to Weights & Biases: one line of a config, ``logger: metalit.runs.WandbLogger``.

    The run folder is the original, and this logger copies it: metrics as they come; settings and code version at the
    beginning; figures, results and tables when a stage ends. It chooses W&B's offline mode by itself where there is no
    account or no network, and nothing that goes wrong in W&B ends a run. The run's id, and how much of it W&B has, are
    kept in ``wandb.jsonl`` of the run folder: a resumed run, and its test, go on under the same id, and nothing is
    sent twice.

    Args:
        project: W&B project; ``WANDB_PROJECT`` if not given, else ``metalit``.
        entity: W&B user or team; the account's default if not given.
        name: the run's name; the last two parts of the run folder's path if not given.
        group: runs to be shown together, such as a sweep; ``WANDB_RUN_GROUP`` if not given.
        tags: tags beside the names of the algorithm and the data set.
        notes: a text about the run.
        save_dir: the run folder; metalit's command line fills it in.
    """

    def __init__(
        self,
        project: str | None = None,
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
        save_dir: str | None = None,
    ) -> None:
        project = project or os.environ.get("WANDB_PROJECT", "metalit")
        options: dict[str, Any] = {
            "entity": entity,
            "group": group,
            "tags": list(tags) or None,
            "notes": notes,
        }
        super().__init__(name=name, project=project, save_dir=save_dir or ".", **options)
        self._anew = False
        self._record: RunRecord | None = None
        self._stopped = False
        self._config_sent = False

    def use_folder(self, run_dir: str | Path, *, anew: bool) -> None:
        """Say which run this is.

        Args:
            run_dir: the run folder.
            anew: a training from the beginning, and not the run that the folder may hold already.
        """
        self._save_dir, self._anew = str(run_dir), anew

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open run out: the process that is given this logger opens it again if it is the one that logs."""
        return {**self.__dict__, "_experiment": None, "_record": None}

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, opened when first asked for; something that takes any call where there is none."""
        if self._experiment is None and not self._stopped:
            with self._harmless():
                self._open()
        return self._experiment or _DummyExperiment()

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log settings, beside those in the run folder's ``config.yaml``."""
        with self._harmless():
            super().log_hyperparams(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics of a training step, each once; those of a test become the run's results."""
        run, record = self.experiment, self._record
        if record is None:
            return
        with self._harmless():
            self._send_config()
            results = {name: value for name, value in metrics.items() if name.startswith("test/")}
            if results:
                record.note_results(results)
                run.summary.update(results)
            step = record.last_step() if step is None else step
            new = record.new_metrics({name: metrics[name] for name in metrics if name not in results}, step)
            if new.keys() - {"epoch"}:
                new |= {name: metrics[name] for name in ("epoch",) if name in metrics}
                # noted before it is sent, so that it can neither be lost nor sent again
                run.log({**new, STEP: step}, step=record.note_row(new, step), commit=True)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Send what the stage left in the run folder, and close the run; a later stage opens it again."""
        if self._record is None:
            return
        with self._harmless():
            self._send_config()
            self._send_files()
            self.experiment.finish(exit_code=0 if status == "success" else 1)
            self._record.note_end(Path(self.experiment.dir).parent.name)
        self._experiment, self._record = None, None

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is: the run is worth more than its copy
            self._stopped, self._experiment, self._record = True, None, None
            rank_zero_warn(
                f"W&B gets no more of this run ({error}); the run goes on, and metrics.csv has all of it"
            )

    def _open(self) -> None:
        folder = Path(self._save_dir or ".").resolve()
        mode = choose_mode()
        if mode.name == "disabled":
            self._stopped = True
            return
        folder.mkdir(parents=True, exist_ok=True)
        run_id = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
        self._record = record = RunRecord(folder, run_id, anew=self._anew, others=files_of(folder))
        self._id, self._anew, self._config_sent = record.id, False, False
        if mode.name == "online" and not all(map(is_synced, parts_of(folder, record.id))):
            mode = Mode("offline", "an earlier part of this run has not been sent yet")
        self._experiment = run = self._init(folder, record.id, mode)
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        run.config.update({"code": code_version(Path.cwd())}, allow_val_change=True)
        run.summary.update(record.summary())
        for number, step, metrics in record.rows_from(self._missing_from(folder, record)):
            run.log({**metrics, STEP: step}, step=number, commit=True)

    def _missing_from(self, folder: Path, record: RunRecord) -> int:
        """Return the first row that W&B lost when an earlier part was killed."""
        run = self.experiment
        if run.settings.mode == "online":
            record.note_begin(None)
            return min(int(run.step), record.rows)  # which the server says
        known = {*record.finished, Path(run.dir).parent.name}
        cut = (part for part in parts_of(folder, record.id) if part.parent.name not in known)
        first = record.first if set_aside(cut) and record.first is not None else record.rows
        record.note_begin(first)
        return first

    def _init(self, folder: Path, run_id: str, mode: Mode) -> Any:
        import wandb  # takes a second, and most runs do without it

        offline = mode.name == "offline"
        limits: dict[str, Any] = {
            name: limit for name, limit in LIMITS.items() if f"WANDB_{name.upper()}" not in os.environ
        }
        options: dict[str, Any] = self._wandb_init | {
            "dir": str(folder),
            "id": run_id,
            "name": self._name or f"{folder.parent.name}/{folder.name}",
            "mode": mode.name,
            "resume": None if offline else "allow",
            "settings": {"quiet": True, "silent": offline, **limits},
        }
        del options["anonymous"]  # W&B is about to drop it, and says so
        try:
            run = wandb.init(**options)
        except wandb.Error as error:
            if offline:
                raise
            wandb.teardown()  # else it holds the id for the run that it could not open
            return self._init(folder, run_id, Mode("offline", str(error)))
        if offline:
            rank_zero_info(
                f"W&B is offline: {mode.reason}. To send this run when it has ended: "
                f"WANDB_RESUME=allow wandb sync {folder / 'wandb'}"
            )
        return run

    def _send_config(self) -> None:
        path = Path(self._save_dir or ".") / "config.yaml"
        if self._config_sent or not path.is_file():
            return
        self._config_sent = True
        config, run = yaml.safe_load(path.read_text(encoding="utf-8")), self.experiment
        run.config.update(config, allow_val_change=True)
        names = {str(config[part]["class_path"]).rpartition(".")[2] for part in ("model", "data")}
        run.tags = tuple(sorted({*(run.tags or ()), *names}))

    def _send_files(self) -> None:
        run, record = self.experiment, self._record
        assert record is not None
        files = record.new_files(files_of(Path(self._save_dir or ".")))
        media: dict[str, Any] = {}
        for path in files:
            media |= media_of(path)
            if path.name == RESULTS_FILE:
                results = summary_of(path)
                record.note_results(results)
                run.summary.update(results)
        if files:
            row = record.note_row({}, 0, files)
            run.log({**media, STEP: record.last_step()}, step=row, commit=True)
