"""Disclosure to authorities: a demand is recorded, approved by two persons, and answered with the least possible.

cases.py has the steps, extract.py what is handed over, report.py the yearly report without names.
"""
