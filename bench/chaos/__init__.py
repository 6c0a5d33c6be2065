"""`python -m bench.chaos`: a system that is killed, held up, filled and emptied, and loses nothing.

schedule.py   which fault comes when, from a seed
faults.py     what each fault does to a running system
keeper.py     starts again what died, ends what a fault began, and sees how long a killed worker's shard lies
work.py       curation jobs and training runs, one after another for as long as there are faults to come
account.py    what became of everything submitted, and digests of what came out
poisoned.py   a service that dies of one prompt
"""
