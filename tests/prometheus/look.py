"""Runs all queries of the dashboard and the runbooks, and checks that each has a result: `look.py http://127.0.0.1:3095`.
`tests/prometheus/run` runs it from the root of the repository, while there is load. A query without a result is repeated for a
minute."""

import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

DASHBOARD = "ops/grafana/loadshed.json"
RUNBOOKS = "docs/runbooks.md"
# The variables that Grafana replaces.
VARIABLES = {"$__rate_interval": "2m", "$job": ".*", "$budget": ".*"}
# 0 is valid, as no upload is refused here.
MAY_BE_ZERO = "loadshed_refused_uploads"
DEADLINE = time.monotonic() + 60

prometheus = sys.argv[1]
wrong = []


def get(path, **query):
    url = f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    while True:
        try:
            with urllib.request.urlopen(url) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            if error.code != 503:
                sys.exit(f"{query}: {error.read().decode()}")
        except urllib.error.URLError as error:
            if time.monotonic() > DEADLINE:
                sys.exit(f"{url}: {error}")
        # Prometheus is still starting.
        time.sleep(0.5)


def check(where, query):
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    if "$" in query:
        return wrong.append(f"{where}: unknown variable: {query}")
    values = results(query)
    while not is_valid(values, query) and time.monotonic() < DEADLINE:
        time.sleep(0.5)
        values = results(query)
    if not is_valid(values, query):
        wrong.append(f"{where}: {values} for {query}")
    print(f"{len(values):2} series  {where}")


def results(query):
    return [float(series["value"][1]) for series in get("query", query=query)["result"]]


def is_valid(values, query):
    return any(math.isfinite(value) and (value != 0 or MAY_BE_ZERO in query) for value in values)


def panels_of(dashboard):
    ids, boxes = set(), []
    for panel in dashboard["panels"]:
        grid = panel["gridPos"]
        box = (grid["x"], grid["y"], grid["x"] + grid["w"], grid["y"] + grid["h"])
        if panel["id"] in ids or box[2] > 24:
            wrong.append(f"{panel['title']}: duplicate id, or too wide")
        for other in boxes:
            if box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]:
                wrong.append(f"{panel['title']}: overlaps another panel")
        ids.add(panel["id"])
        boxes.append(box)
        if panel["type"] != "row":
            if not panel["description"] or panel["datasource"]["uid"] != "${datasource}":
                wrong.append(f"{panel['title']}: no description, or another data source")
            yield panel


def look_at_dashboard():
    with open(DASHBOARD, encoding="utf-8") as file:
        dashboard = json.load(file)
    known = [variable["name"] for variable in dashboard["templating"]["list"]]
    if known != ["datasource", "job", "budget"]:
        wrong.append(f"the variables are {known}")
    for variable in dashboard["templating"]["list"][1:]:
        metric = re.match(r"label_values\((.*), (\w+)\)$", variable["query"]["query"])
        check(f"${variable['name']}", f"count by ({metric[2]}) ({metric[1]})")
    for panel in panels_of(dashboard):
        for target in panel["targets"]:
            check(f"{panel['title']}, {target['refId']}", target["expr"])
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation:
            check(annotation["name"], annotation["expr"])


def look_at_runbooks():
    with open(RUNBOOKS, encoding="utf-8") as file:
        text = file.read()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    rules = [rule for group in get("rules")["groups"] for rule in group["rules"]]
    alerts = {rule["name"]: rule for rule in rules if rule["type"] == "alerting"}
    if sorted(sections) != sorted(alerts):
        wrong.append(f"runbooks for {sorted(sections)}, alerts are {sorted(alerts)}")
    for name, section in sections.items():
        url = alerts.get(name, {}).get("annotations", {}).get("runbook_url")
        if url != f"{RUNBOOKS}#{name.lower()}":
            wrong.append(f"{name}: its runbook is {url}")
        for part in ("What it means", "Is it bad?", "What to look at", "What to do now", "What to do later"):
            if f"**{part}" not in section:
                wrong.append(f"{name}: missing part: {part}")
        for nth, query in enumerate(re.findall(r"```promql\n(.*?)```", section, re.S), 1):
            check(f"runbook {name}, {nth}", query)


look_at_dashboard()
look_at_runbooks()
print(*wrong, sep="\n")
sys.exit(bool(wrong))
