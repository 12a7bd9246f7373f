"""What a run or several of them show: plots as files, and pages that stand alone."""
