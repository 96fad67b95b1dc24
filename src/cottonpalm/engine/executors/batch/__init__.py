"""The batch lane: rows answered through a provider's Batch API."""
