"""Chains without LangChain's callback machinery, for rows that nobody listens to."""
