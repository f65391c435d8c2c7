"""callscribe: real-time transcription of call-centre audio as a Kafka application."""

import os

__version__ = "0.1.0"

# Must be set before NumPy is imported. Its BLAS otherwise splits small products over all cores and spins between them, which
# nearly doubled the CPU time of a worker; parallelism comes from calls side by side. Not a default: with other numbers the sums are
# rounded otherwise, and the probabilities of a replay are not those of the workers.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[_name] = "1"

# oneDNN, under CTranslate2 on a CPU, keeps what it compiled for every length of window that it has seen, 1024 of them: 130 MB that
# grow for an hour. Fewer are as fast.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
