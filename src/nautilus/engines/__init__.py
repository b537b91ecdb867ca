"""Speech models behind one blocking Protocol (`base`), and the catalog that finds them.

An engine knows waveforms and hypotheses. It does not know queues, requests, files of users, or asyncio.
"""
