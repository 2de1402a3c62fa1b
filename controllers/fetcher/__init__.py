"""Fetches the values of secrets that name a provider, and looks again and again.

What a user may reach through a manager's credentials is decided here, by the operator's file
(`definitions`): which namespaces may use a provider, and below what of it they stay.
"""
