"""Every error that a user may meet. The text of each is one sentence for that user.

NucleusLensError
├── ConfigError         the environment or the secrets say something that cannot be meant
├── SettingError        a knob out of its range
├── PromptError         a prompt that cannot be run: empty, longer than the context
├── ModelError          a model that cannot be used
│   ├── ModelNotFound       no such name, or not allowed here
│   ├── ModelDownloadError  the hub is out of reach, the download broke, the disk is full
│   └── ModelFilesError     files that are missing, damaged or of an unsupported kind
├── HistoryError        the database
│   ├── RunNotFound         no run with that id
│   ├── HistoryBusy         locked by someone else for too long
│   ├── HistoryFull         no space left, or read-only
│   └── HistoryDamaged      a stored step that cannot be read
├── QueueFull           too many runs are waiting
└── DocumentError       a run document that cannot be read

The text says what happened, what was expected and what to do; the cause goes to the log (``raise ... from cause``).
"""


class NucleusLensError(Exception):
    """Base of all errors that are shown to the user; ``str(error)`` is the sentence to show."""


class ConfigError(NucleusLensError, ValueError):
    """A value of the environment or of the secrets that cannot be used."""


class SettingError(NucleusLensError, ValueError):
    """A sampling setting out of its range."""


class PromptError(NucleusLensError, ValueError):
    """A prompt that cannot be run."""


class ModelError(NucleusLensError):
    """A model that cannot be used."""


class ModelNotFound(ModelError):
    """No model of that name is known or allowed here."""


class ModelDownloadError(ModelError):
    """A model could not be fetched from the hub."""


class ModelFilesError(ModelError):
    """Model files that are missing, damaged or of a kind that is not loaded."""


class HistoryError(NucleusLensError):
    """The database of runs cannot do what was asked."""


class RunNotFound(HistoryError, LookupError):
    """No run with that id."""


class HistoryBusy(HistoryError):
    """The database stayed locked for longer than the busy timeout."""


class HistoryFull(HistoryError):
    """The database cannot be written: no space left on the disk, or a read-only file."""


class HistoryDamaged(HistoryError):
    """A stored step cannot be read: its record is damaged, or of a form that is not known here."""


class QueueFull(NucleusLensError):
    """Too many runs are waiting already."""


class DocumentError(NucleusLensError, ValueError):
    """A run document that cannot be read."""
