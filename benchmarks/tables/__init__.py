"""Meta-learners on a table of many related tasks, beside ridge regression and gradient boosting."""
