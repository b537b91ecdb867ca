"""Addresses that callers name: what they may lead to, one door to reach them by, and fetching a file from one.

It knows URLs, names, addresses and HTTP. It does not know what is fetched, nor what for.
"""
