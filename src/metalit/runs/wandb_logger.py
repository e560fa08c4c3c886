"""The Weights & Biases logger: a copy of the run folder, on which the run itself never depends."""

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from metalit.files import write_text
from metalit.private import NoExperiment, OpenWandbLogger
from metalit.runs.training_log import TrainingLog
from metalit.runs.versions import code_version
from metalit.runs.wandb_files import files_to_send, media_and_summary

# holds the run id; when the training began, in seconds since 1970, for older files belong to an earlier one; and the
# number of the first row that is not in a sent part
ID_FILE = "wandb.id"
STEP = "trainer/global_step"  # Lightning's name of the training step, and the horizontal axis of every curve
ROWS = 10  # row numbers per step: its training row, its validation row, and space for the figures of later tests
# seconds for the server to open the run, and to receive what is left at the end; the rest stays in the run folder
LIMITS = {"init_timeout": 15, "finish_timeout": 300}


class WandbLogger(OpenWandbLogger):
    """Logs a run to Weights & Biases, enabled by one line of a config: ``logger: metalit.runs.WandbLogger``.

    The run folder is the original, and this logger sends a copy: metrics as they are logged; settings and code version
    at the start; figures, results and tables at the end of a stage. Without an account or a server it works offline,
    and no failure of W&B ends a run.

    A resumed run and its test continue under the id in the run folder's ``wandb.id``. The number of a row follows from
    its training step. A repeated step is therefore recognised, and rows that W&B lacks are sent again from
    ``metrics.csv``.

    Args:
        project: W&B project; if not given, ``WANDB_PROJECT`` or else ``metalit``.
        entity: W&B user or team; if not given, the account's default.
        name: name of the run; if not given, the last two parts of the run folder's path.
        group: name under which W&B groups runs, such as those of a sweep; if not given, ``WANDB_RUN_GROUP``.
        tags: tags in addition to the names of the algorithm and the data set.
        notes: a description of the run.
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
        super().__init__(project=project, save_dir=save_dir or ".")
        self._options: dict[str, Any] = {"project": project, "entity": entity, "name": name, "group": group}
        self._options |= {"tags": list(tags) or None, "notes": notes}
        self._is_new = self._has_log = self._stopped = self._config_sent = False
        self._first = self._row = 0  # numbers of the first row that W&B lacks, and of the last row logged
        self._files_since = 0  # W&B gets the files modified after this time (ns since 1970)

    def use_folder(self, run_dir: str | Path, *, is_new: bool) -> None:
        """Set the run folder, in which a CSV logger writes all metrics to ``metrics.csv``.

        Args:
            run_dir: the run folder.
            is_new: whether this is a training from scratch, rather than the run that the folder may already hold.
        """
        self.folder, self._is_new, self._has_log = str(run_dir), is_new, True

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, opened on first access; a dummy that accepts any call if there is none."""
        if self.run is None and not self._stopped:
            with self._harmless():
                self._open()
        return self.run or NoExperiment()

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log settings in addition to those in the run folder's ``config.yaml``."""
        with self._harmless():
            if self.experiment is self.run:
                super().log_hyperparams(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log the metrics of a training step, each row once; test metrics go to the run's summary."""
        with self._harmless():
            if self.experiment is self.run:
                self._send_config()
                self._log_row(metrics, self._row // ROWS if step is None else step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Send the files that the stage wrote and close the run; a later stage opens it again."""
        if self.run is None:
            return
        with self._harmless():
            self._send_config()
            self._send_files()
            self.experiment.finish(exit_code=0 if status == "success" else 1)
        self.run = None

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of any kind: the run matters more than its copy
            self._stopped, self.run = True, None
            rank_zero_warn(f"W&B gets no more of this run ({error}); the run goes on, and metrics.csv has all of it")

    def _open(self) -> None:
        folder = Path(self.folder or ".").resolve()
        mode, reason = choose_mode()
        if mode == "disabled":
            self._stopped = True
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / ID_FILE
        is_known = path.is_file() and not self._is_new
        if is_known:
            self.run_id, start, first = path.read_text(encoding="utf-8").split()
            begun, self._first = int(start), int(first)
        else:
            self.run_id = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
            begun, self._first = int(time.time()) if self._is_new else 0, 0
        log = TrainingLog.read(folder / "metrics.csv", begun).rows if self._has_log else []
        # a part begun within the same second as another has a suffix at its folder, -1
        # W&B cannot resume an offline run; a new part, filled from metrics.csv, replaces all that are not sent yet
        parts = folder.glob(f"wandb/offline-run-*-{self.run_id}*/run-{self.run_id}.wandb") if self._has_log else ()
        replaced = [part for part in parts if not part.with_suffix(".wandb.synced").exists()]
        if is_known and log and not replaced:  # all parts have been sent, so W&B has every row of the log
            self._first = max(number_of(row, int(row["step"])) for row in log) + 1
        self.run = run = self._init(folder, mode, reason)
        write_text(path, f"{self.run_id} {begun} {self._first}\n")
        # renamed, so that ``wandb sync`` sends the new part alone and no row twice
        for part in replaced:
            part.replace(part.with_suffix(".wandb.incomplete"))
        self._is_new = self._config_sent = False
        sent = files_to_send(folder) if is_known and not replaced else []
        self._files_since = max([begun * 10**9, *(file.stat().st_mtime_ns for file in sent)])
        # curves over the training step, not over W&B's own row numbers
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        run.config.update({"code": code_version(Path.cwd())}, allow_val_change=True)
        if run.settings.mode == "online":
            self._first = int(run.step)  # the server says which row comes next
        self._row = self._first
        for row in log:
            self._log_row({name: row[name] for name in row if name != "step"}, int(row["step"]))
        self._first = self._row

    def _init(self, folder: Path, mode: str, reason: str) -> Any:
        import wandb  # takes a second to import, and most runs do not use it

        # W&B's own variables, such as WANDB_INIT_TIMEOUT, take precedence
        limits = {name: limit for name, limit in LIMITS.items() if f"WANDB_{name.upper()}" not in os.environ}
        options = self._options | {
            "dir": str(folder),
            "id": self.run_id,
            "name": self._options["name"] or f"{folder.parent.name}/{folder.name}",
            "mode": mode,
            "resume": None if mode == "offline" else "allow",
            "settings": {"quiet": True, "silent": mode == "offline", **limits},
        }
        try:
            run = wandb.init(**options)
        except wandb.Error as error:
            if mode == "offline":
                raise
            wandb.teardown()  # otherwise W&B keeps the id reserved for the run that it could not open
            return self._init(folder, "offline", str(error))
        if mode == "offline":
            rank_zero_info(
                f"W&B is offline: {reason}. To send this run when it has ended: "
                f"WANDB_RESUME=allow wandb sync {folder / 'wandb'}"
            )
        return run

    def _log_row(self, metrics: Mapping[str, Any], step: int) -> None:
        results = {name: value for name, value in metrics.items() if name.startswith("test/")}
        if results:
            self.experiment.summary.update(results)
        row = {name: value for name, value in metrics.items() if name not in results}
        number = number_of(row, step)
        if row.keys() - {"epoch"} and number >= self._first:
            # W&B merges rows with the same number, and rejects a row with a smaller number than the last
            self._row = max(self._row, number)
            self.experiment.log({**row, STEP: step}, step=self._row)

    def _send_config(self) -> None:
        path = Path(self.folder or ".") / "config.yaml"
        if self._config_sent or not path.is_file():
            return
        self._config_sent = True
        config, run = yaml.safe_load(path.read_text(encoding="utf-8")), self.experiment
        run.config.update(config, allow_val_change=True)
        names = {str(config[part]["class_path"]).rpartition(".")[2] for part in ("model", "data")}
        run.tags = tuple(sorted({*(run.tags or ()), *names}))

    def _send_files(self) -> None:
        run, media = self.experiment, dict[str, Any]()
        for path in files_to_send(Path(self.folder or ".").resolve()):
            if path.stat().st_mtime_ns > self._files_since:
                shown, summary = media_and_summary(path)
                media |= shown
                run.summary.update(summary)
        if media:
            run.log({**media, STEP: self._row // ROWS}, step=self._row)


def number_of(metrics: Mapping[str, Any], step: int) -> int:
    """Return the row number for the metrics of a step; the validation row follows the training row."""
    return ROWS * step + any(name.startswith("val/") for name in metrics)


def choose_mode() -> tuple[str, str]:
    """Return W&B's mode and, if it is ``offline``, the reason, without prompting; the user's choice comes first."""
    import wandb

    mode = str(wandb.setup().settings.mode)
    if mode in ("offline", "dryrun"):  # dryrun is W&B's other name for offline
        return "offline", "WANDB_MODE or W&B's settings say so"
    try:
        if mode != "online" or wandb.login(prompt=False, verify=False):
            return mode, ""
    except wandb.Error as error:
        return "offline", str(error)
    return "offline", "there is no API key (wandb login, or WANDB_API_KEY)"
