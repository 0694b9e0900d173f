"""Files wherever they lie: on this machine, or far away, asked for through fsspec.

:mod:`~vggfeat.storage.places` says what a reader of archives and tables needs of a file, and
:class:`~vggfeat.storage.remote.Remote` asks storage far away, again where a connection breaks.
"""
