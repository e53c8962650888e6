"""How good a judge of deployments is: seeded scenarios, the practice of today beside it, and a table.

`python -m benchmarks.judging --detector benchmarks.judge:make_detector`. A judge is a callable
`make_detector(metric_kind, direction, baseline, deploy_t, *, n_metrics=1, step=60.0)` that gives something with
`update(t, value, n)`, which says *healthy*, *undecided* or *regressed*. Times are seconds; second 0 is a Monday, 00:00.
"""
