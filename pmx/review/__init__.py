"""The page on which a run is reviewed: facts gathered from a result, a rule that says whether to deploy, and one offline HTML file."""
