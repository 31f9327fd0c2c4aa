"""The error tree. Everything the library raises on purpose is a `PrivPartError`.

PrivPartError
├── ModelError (ValueError)            a model that cannot be partitioned, or a model file that cannot be read
├── CutError (ValueError)              a cut that is unknown or does not separate inputs from outputs
├── VerificationError                  the halves do not compose to the whole model
├── ChannelError (ValueError)          a channel that does not fit the boundary
├── TrainingError (ValueError)         targets, weights or adversaries that do not fit
├── DataError (ValueError)             a data set that is missing, empty or lacks a key
├── AuditError (ValueError)            an audit that cannot be carried out on what it was given
├── ThreatModelError (ValueError)      a threat model that is no such thing
├── ContractError (ValueError)         a contract that is malformed or from a future schema
├── BundleError                        a bundle that cannot be written or read
│   ├── BundleExistsError              the target is there already
│   └── IntegrityError                 a file of the bundle is missing, changed or not listed
└── ServingError                       anything between client and server
    ├── ArgumentError (ValueError)     an argument of a client's method that cannot be meant; nothing was sent
    ├── BoundaryMismatchError          a tensor that is not what the boundary declares; nothing was sent
    ├── PairMismatchError              the server half does not belong to this device half; nothing was sent
    ├── ServerUnavailableError         nobody answers
    ├── SecureConnectionError          the two sides do not agree on TLS or on each other's certificates
    ├── DeadlineExceededError          no answer in time
    ├── ServerNotFoundError            the server has no such model or version
    ├── RequestRefusedError            the server refuses the request as it stands
    ├── PermissionRefusedError         the server refuses the caller
    ├── ServerOverloadedError          the server has no room for the request
    │   └── ServerBusyError            all of its threads are taken; the request was not read
    ├── ServerFailedError              the server failed inside
    └── EngineError                    a server that cannot be started or has died
"""

from __future__ import annotations


class PrivPartError(Exception):
    """Base of every error that the library raises on purpose."""


class ModelError(PrivPartError, ValueError):
    """A model that cannot be partitioned, or a model file that cannot be read."""


class CutError(PrivPartError, ValueError):
    """A cut that is unknown or does not separate the inputs from the outputs."""


class VerificationError(PrivPartError):
    """The halves do not compose to the whole model."""


class ChannelError(PrivPartError, ValueError):
    """A channel that does not fit the boundary."""


class TrainingError(PrivPartError, ValueError):
    """Targets, weights or adversaries that do not fit together."""


class DataError(PrivPartError, ValueError):
    """A data set that is missing, empty or lacks a key."""


class AuditError(PrivPartError, ValueError):
    """An audit that cannot be carried out on what it was given."""


class ThreatModelError(PrivPartError, ValueError):
    """A threat model that names nothing private, or holds what is no value of its fields."""


class ContractError(PrivPartError, ValueError):
    """A contract that is malformed or written by a newer schema."""


class BundleError(PrivPartError):
    """A bundle that cannot be written or read."""


class BundleExistsError(BundleError):
    """The target of an export is there already."""


class IntegrityError(BundleError):
    """A file of the bundle is missing, changed or not listed in the contract."""


class ServingError(PrivPartError):
    """Anything that goes wrong between client and server."""


class ArgumentError(ServingError, ValueError):
    """An argument of a client's method that cannot be meant. Nothing was sent."""


class BoundaryMismatchError(ServingError):
    """A tensor that is not what the boundary declares. Nothing was sent."""


class PairMismatchError(ServingError):
    """The server half does not belong to this device half. Nothing was sent."""


class ServerUnavailableError(ServingError):
    """Nobody answers at the address."""


class SecureConnectionError(ServingError):
    """Client and server do not agree on TLS, or on each other's certificates. Trying again does not help."""


class DeadlineExceededError(ServingError):
    """No answer within the deadline."""


class ServerNotFoundError(ServingError):
    """The server has no such model, version or label."""


class RequestRefusedError(ServingError):
    """The server refuses the request as it stands."""


class PermissionRefusedError(ServingError):
    """The server refuses the caller."""


class ServerOverloadedError(ServingError):
    """The server has no room for the request."""


class ServerBusyError(ServerOverloadedError):
    """All threads of the server are taken; it has not read the request."""


class ServerFailedError(ServingError):
    """The server failed inside."""


class EngineError(ServingError):
    """A server that cannot be started or has died."""
