"""Verdicts to alarms, one step at a time: the words follow ISA-18.2 where it has one."""
