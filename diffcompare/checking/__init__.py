"""Checking derivatives without a tolerance."""

from diffcompare.checking.check import check_grads as check_grads
from diffcompare.checking.report import Report as Report
