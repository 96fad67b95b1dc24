"""The Batch APIs that `batch_provider` serves."""
