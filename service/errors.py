"""What the service raises on purpose; which HTTP answer each error becomes says `service/http/problems.py`.

BespokeError (latency_tables/errors.py)
├── JobConflict            a job is not in a state from which it can go where it was sent
│   └── JobEnded           a job that has ended was asked to do something
├── ImplausibleNetworks    measured networks are unlike those of any known device
├── ArtifactMissing        a file that the database knows is not in the store
├── ArtifactCorrupt        a file's bytes are not those of its SHA-256
├── UnsafeSettings         settings that must not serve (service/startup.py)
├── WrongSettings          a setting that cannot be (service/settings.py)
├── NoClasses              a model whose card knows no classes (service/cli/confusion.py)
├── RunFailed              a file cannot be run on these pictures (service/cli/run_file.py)
├── NetworksDoNotFit       a transferred table does not explain the device (service/cli/devices.py)
├── TableMoved             somebody else published a table meanwhile (service/cli/devices.py)
├── TableInReview          a profile's table needs a review (service/cli/profile.py)
├── DemoFailed             the demo did not come to its end (service/cli/demo.py)
├── StackFailed            API or worker did not come up (service/cli/supervisor.py)
├── NotWell                the doctor found something (service/cli/doctor.py)
├── AgentStopped           the agent on this machine ended (service/cli/local_agent.py)
├── NoMatrix               a job without a matrix (service/cli/matrix.py)
├── FileRefused            a file of jobs with faults, each with its line (service/cli/yaml_lines.py)
├── PlanRefused            some of a file of jobs cannot be had (service/cli/apply.py)
├── NotApplied             an entry of a file of jobs could not be brought about (service/cli/applying.py)
└── PushFailed             a network could not be handed over (service/sinks/errors.py)
ClientError (service/client/errors.py)
├── SomeFailed             some targets of a search have no network (service/cli/search.py)
├── Suspect                a network does not do what was predicted (service/cli/search.py)
└── NothingTrained         no supernet to show a front of (service/cli/front.py)
InvalidPredictor (supernets/errors.py)
└── NoSuchSupernet         scores were given for a supernet that is not there (service/local/importing.py)
HTTPException
└── Problem                an answer of the API that is an error (service/http/errors.py)
"""

from __future__ import annotations

from latency_tables.errors import BespokeError


class JobConflict(BespokeError):
    """A guarded write to a job found it in another state, or held by another worker."""


class JobEnded(JobConflict):
    """The job has already ended; `state` says how."""

    state: str

    def __init__(self, state: str) -> None:
        super().__init__(f"the job has already ended: {state}")
        self.state = state


class ImplausibleNetworks(BespokeError):
    """Latencies of whole networks that no device has, most likely in another unit."""


class ArtifactMissing(BespokeError, LookupError):
    """No file of that SHA-256 is in the artifact store."""


class ArtifactCorrupt(BespokeError):
    """The bytes on disk are not those of the SHA-256 they are stored under."""
