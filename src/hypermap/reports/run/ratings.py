"""What a report says of ratings and rankings."""

from hypermap.reports.run.regression import RegressionReport
from hypermap.reports.run.task_report import TaskReport


class RatingReport(RegressionReport):
    """Residuals, and what is liked."""

    headline = ("rmse", "f1")
    compared = ("rmse", "f1")


class RankingReport(TaskReport):
    """What is recommended, and to whom."""

    headline = ("ndcg", "hr")
    compared = ("ndcg", "hr")
