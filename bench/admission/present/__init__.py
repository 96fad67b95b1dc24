"""The way admission was decided before: a baseline for `bench.admission`, kept as it was."""
