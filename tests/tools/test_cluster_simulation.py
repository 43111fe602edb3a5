import json
from dataclasses import replace

from realtime_mer.archive import cluster
from tools import cluster_simulation
from tools.cluster_simulation import Cluster, main, simulate

SMALL = Cluster(nodes=4, cores=4, videos_a_core=20)


def test_it_simulates_the_program_as_it_is():
    ours = cluster_simulation
    assert ours._MOST_LOST == cluster.MOST_LOST
    assert ours._WAITING_PART == cluster._WAITING_PART
    assert ours._PROGRESS_A_SECOND == cluster._MESSAGES_A_SECOND
    assert ours._MOST_MESSAGES == cluster._MOST_MESSAGES


def test_the_same_seed_gives_the_same_figures():
    assert simulate(SMALL, 1) == simulate(SMALL, 1)
    assert simulate(SMALL, 1) != simulate(SMALL, 2)


def test_with_nothing_in_the_way_the_cores_are_what_counts():
    figures = simulate(SMALL)
    assert 0.85 < figures.cores_busy <= 1.0
    assert figures.lost_tasks == 0
    assert abs(figures.video_hours_an_hour / 16 - figures.cores_busy) < 0.01


def test_a_slow_storage_limits_what_is_done():
    # 32 Mbit/s for videos of 8 Mbit/s: four hours of video an hour.
    figures = simulate(replace(SMALL, storage_gbit=0.032))
    assert figures.next_limit == "storage"
    assert 3.5 < figures.video_hours_an_hour <= 4.0


def test_a_slow_process_limits_what_is_done():
    figures = simulate(replace(SMALL, video_s=1.0, process_s=0.1))
    assert figures.next_limit == "process"
    assert figures.cores_busy < 0.7


def test_tasks_of_nodes_that_go_away_are_done_again_or_given_up():
    figures = simulate(replace(SMALL, days_between_deaths=0.02))
    assert figures.lost_tasks > 0
    assert figures.given_up > 0
    assert figures.cores_busy < 0.9


def test_each_number_of_nodes_gives_a_line(capsys):
    assert main(["--nodes", "1", "2", "--json", "--videos-a-core", "2"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["nodes"] for line in lines] == [1, 2]
