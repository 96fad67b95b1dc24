"""What both OpenTelemetry observers share: the conventions' names, and many values at once."""
