"""What the user may type: every option, its checks, and where else it may stand."""
