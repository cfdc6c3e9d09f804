"""What people who do this job report elsewhere, by the number of the log in which it was tried on this product.

Each is one of a kind; the tests named here say what is right for the kind. Numbers that are not here (7, 13, 22) were
never given.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parents[1]

CASES: Final[dict[int, tuple[str, tuple[str, ...]]]] = {
    1: (
        "nobody who gets the file can feed it",
        (
            "worker/pipelines/search/test_delivering.py::test_fifteen_lines_fed_by_the_files_metadata_have_the_cards_accuracy_on_raw_pictures",
            "contracts/test_delivery_formats.py::test_a_file_in_that_form_computes_the_network_and_says_how_it_is_fed",
            "supernets/data/test_preprocessing.py::test_a_script_with_numpy_and_pillow_alone_makes_the_same_input",
        ),
    ),
    2: (
        "other pictures under the same name",
        (
            "service/test_changed_data.py::test_other_samples_under_the_same_name_get_a_supernet_of_their_own",
            "service/test_changed_data.py::test_a_supernet_of_other_samples_is_not_searched",
            "end_to_end/test_changed_data.py::test_data_that_changes_under_a_queued_job_is_refused_and_nothing_is_delivered",
            "supernets/delivery/test_verdict.py::test_far_below_the_prediction_is_suspect",
            "service/cli/test_commands.py::test_a_delivery_that_does_not_do_what_was_predicted_ends_with_status_1",
        ),
    ),
    3: (
        "the right table uploaded again after a wrong one",
        (
            "service/devices/test_tables.py::test_the_table_imported_last_is_in_use_also_when_it_was_imported_before",
            "service/cli/test_tables.py::test_versions_are_listed_used_and_deleted",
        ),
    ),
    4: (
        "microseconds or seconds in median_ms",
        (
            "service/devices/test_tables.py::test_values_in_another_unit_are_looked_at_before_they_are_used",
            "latency_tables/test_scale.py::test_another_unit_is_found_on_a_device_like_any_published_one",
            "service/cli/test_tables.py::test_a_unit_is_given_on_the_command_line",
        ),
    ),
    5: (
        "float16 and batch 8 asked for, float32 and batch 1 delivered",
        (
            "contracts/test_delivery_formats.py::test_a_file_in_that_form_computes_the_network_and_says_how_it_is_fed",
            "service/devices/test_devices.py::test_a_context_that_nothing_can_be_measured_in_is_refused_with_the_reason",
            "service/routes/test_searches.py::test_one_file_cannot_serve_devices_of_different_precision_or_batch",
        ),
    ),
    6: (
        "the device's own runtime cannot open the file",
        (
            "contracts/test_delivery_formats.py::test_opset_and_ir_are_those_that_the_runtime_version_opens",
            "contracts/test_delivery_formats.py::test_every_family_and_activation_computes_the_same_in_the_words_of_an_older_opset",
        ),
    ),
    8: (
        "a true table of an NPU is blocked for good",
        (
            "service/devices/test_tables.py::test_the_npu_of_the_public_case_is_ready_with_its_oddity_as_a_warning",
            "latency_tables/test_trust.py::test_the_npu_of_the_public_case_may_be_used_with_its_squeeze_excite_named",
            "service/cli/test_tables.py::test_a_doubtful_table_is_accepted_by_name_with_a_reason",
        ),
    ),
    9: (
        "a device without some of the choices",
        (
            "service/routes/test_searches.py::test_choices_without_a_latency_are_left_out_only_where_that_was_asked_for",
            "service/routes/test_searches.py::test_a_search_leaves_out_what_its_target_excludes",
            "service/devices/test_tables.py::test_a_table_that_covers_nothing_names_what_is_nearest_and_what_it_lacks",
        ),
    ),
    10: (
        "measured networks that do not fit are thrown away",
        (
            "service/devices/test_measuring.py::test_measured_networks_that_do_not_fit_are_kept_and_the_table_is_not_used_as_if_nothing_happened",
            "service/cli/test_tables.py::test_measured_networks_that_do_not_fit_end_with_status_1_and_are_kept",
        ),
    ),
    11: (
        "16-bit grey pictures become all white",
        (
            "supernets/data/test_folders.py::test_16_bit_pictures_have_their_shades",
            "supernets/data/test_preprocessing.py::test_16_bit_grey_keeps_its_shades",
            "supernets/data/test_folders.py::test_a_set_of_one_shade_is_refused",
        ),
    ),
    12: (
        "EXIF orientation is ignored",
        (
            "supernets/data/test_preprocessing.py::test_exif_orientation_is_followed",
            "supernets/data/test_folders.py::test_pictures_that_the_camera_turned_are_put_upright",
        ),
    ),
    14: (
        "hidden folders are classes, hidden files break the set",
        (
            "supernets/data/test_folders.py::test_hidden_folders_are_no_classes",
            "supernets/data/test_folders.py::test_companions_of_other_systems_are_left_out_and_counted",
        ),
    ),
    15: (
        "pictures and whole classes are left out without a word",
        (
            "supernets/data/test_folders.py::test_every_picture_that_pillow_reads_is_used",
            "supernets/data/test_folders.py::test_a_class_without_pictures_is_refused_by_name",
            "supernets/data/test_report.py::test_what_is_left_out_is_counted_by_reason",
        ),
    ),
    16: (
        "MedMNIST, and the user's own validation split",
        (
            "supernets/data/test_names.py::test_medmnist_is_taken_with_its_own_splits",
            "supernets/data/test_folders.py::test_the_users_own_validation_split_is_used",
        ),
    ),
    17: (
        "MNIST by its unpacked name, EMNIST",
        (
            "supernets/data/test_names.py::test_both_spellings_of_mnist_are_taken",
            "supernets/data/test_names.py::test_emnist_is_put_upright_and_its_letters_have_their_names",
            "supernets/data/test_names.py::test_what_is_missing_of_mnist_is_named_beside_what_is_there",
        ),
    ),
    18: (
        "folders kept at 64 pixels for spaces of 224",
        (
            "supernets/data/test_folders.py::test_pictures_are_kept_at_the_size_that_the_space_needs",
            "supernets/data/test_preprocessing.py::test_fine_structure_survives_at_the_kept_size",
        ),
    ),
    19: (
        "rare classes, one class, grey folders",
        (
            "supernets/data/test_report.py::test_a_rare_class_is_warned_of",
            "supernets/delivery/test_verdict.py::test_recall_by_class_shows_what_the_mean_hides_and_rare_classes_are_named",
            "supernets/data/test_folders.py::test_one_class_is_refused",
            "supernets/data/test_folders.py::test_grey_folders_have_one_channel_or_three_as_the_space_needs",
        ),
    ),
    20: (
        "names and paths in BESPOKE_DATASETS",
        (
            "service/test_dataset_names.py::test_a_fault_in_the_setting_is_one_sentence",
            "service/test_dataset_names.py::test_no_process_starts_with_a_name_that_is_taken",
            "service/test_dataset_names.py::test_the_home_folder_is_found",
        ),
    ),
    21: (
        "wrapped, averaged and prefixed checkpoints, other classes",
        (
            "supernets/test_published_weights.py::test_wrapped_averaged_and_prefixed_weights_are_read_and_that_is_said",
            "supernets/test_published_weights.py::test_a_head_of_other_classes_is_taken_when_its_number_is_given",
            "supernets/test_published_weights.py::test_whole_modules_programs_and_archives_are_refused_with_what_to_do",
            "service/cli/test_local_commands.py::test_a_head_that_is_not_for_the_data_set_is_refused_at_import",
        ),
    ),
    23: (
        "CSV as people's tools write it",
        (
            "contracts/test_table_formats.py::test_a_csv_is_read_as_peoples_tools_write_it",
            "contracts/test_table_formats.py::test_a_line_that_could_mean_two_things_is_refused_with_its_row",
        ),
    ),
    24: (
        "a folder of once-for-all tables",
        (
            "service/cli/test_tables.py::test_a_folder_of_once_for_all_tables_is_one_table",
            "service/cli/test_tables.py::test_an_import_that_loses_coverage_says_so_and_add_keeps_both",
            "contracts/test_table_formats.py::test_other_forms_are_recognised_by_what_is_in_them",
        ),
    ),
    25: (
        "a corporate proxy in the environment",
        (
            "latency_tables/agent/test_connection.py::test_the_agent_reaches_a_service_on_this_machine_whatever_proxy_is_set",
            "service/cli/test_local_agent.py::test_the_profile_shows_the_last_words_of_an_agent_that_reaches_nothing",
        ),
    ),
    26: (
        "a gateway with a path prefix",
        ("service/http/test_root_path.py::test_locations_and_the_contract_lead_back_through_the_gateway",),
    ),
    27: (
        "a terminal that is not UTF-8",
        ("service/cli/test_entry.py::test_a_terminal_that_lacks_a_character_still_shows_the_list",),
    ),
    28: (
        "Windows",
        (
            "service/cli/test_entry.py::test_agent_and_client_run_without_what_is_posix_only",
            "service/cli/test_entry.py::test_the_service_says_in_one_sentence_where_it_cannot_run",
        ),
    ),
    29: (
        "memory and size alone",
        (
            "service/routes/test_searches.py::test_limits_on_size_and_memory_alone_need_no_device_and_no_table",
            "worker/pipelines/search/test_targets.py::test_limits_alone_need_no_device",
            "service/devices/test_further_budgets.py::test_memory_is_counted_in_the_precision_that_is_delivered",
            "service/cli/test_push.py::test_a_network_for_no_device_is_handed_over_like_any_other",
        ),
    ),
    30: (
        "energy, tail latency, one network for several devices",
        (
            "worker/pipelines/search/test_targets.py::test_p95_and_energy_are_kept_exactly_beside_the_latency",
            "worker/pipelines/search/test_choose.py::test_a_choice_by_measurement_keeps_the_p95_too",
            "worker/pipelines/search/test_targets.py::test_one_network_for_several_devices_is_the_best_that_keeps_every_budget",
            "service/devices/test_further_budgets.py::test_energy_adds_up_over_the_rows_and_a_row_without_it_is_named",
        ),
    ),
    31: (
        "a container with a CPU quota",
        (
            "latency_tables/agent/test_cgroup.py::test_the_quota_of_a_container_is_read",
            "latency_tables/agent/test_cgroup.py::test_a_quota_that_pauses_the_runtime_is_a_warning",
        ),
    ),
    32: (
        "same seed, same network",
        (
            "supernets/delivery/test_export.py::test_the_same_seed_gives_the_same_file_whatever_the_number_of_threads",
        ),
    ),
    33: (
        "a board whose clock is at 2000-01-01",
        (
            "latency_tables/agent/test_loop.py::test_a_board_whose_clock_is_decades_behind_measures_like_any_other",
        ),
    ),
    34: (
        "what was taken rightly stays so",
        (
            "supernets/data/test_preprocessing.py::test_palette_bilevel_and_cmyk_are_their_colours",
            "supernets/data/test_strange_folders.py::test_names_with_blanks_umlauts_emoji_and_signs_are_classes",
            "supernets/data/test_strange_folders.py::test_links_upwards_and_in_circles_add_nothing",
            "supernets/data/test_loaders.py::test_damaged_folders",
            "supernets/data/test_loaders.py::test_labels_of_other_kinds_are_refused_with_the_cure",
            "service/cli/test_commands.py::test_wrong_usage_is_status_2_and_says_how",
        ),
    ),
}
NEVER_GIVEN: Final = {7, 13, 22}


def test_the_log_is_walked_to_its_end() -> None:
    assert CASES.keys() == set(range(1, 35)) - NEVER_GIVEN


@pytest.mark.parametrize("number", CASES, ids=[f"{number}: {title}" for number, (title, _) in CASES.items()])
def test_every_public_case_has_a_test_that_is_there(number: int) -> None:
    missing = [name for name in CASES[number][1] if not is_there(name)]
    assert not missing and CASES[number][1]


def is_there(name: str) -> bool:
    place, _, function = name.partition("::")
    return function in functions_of(place)


@cache
def functions_of(place: str) -> frozenset[str]:
    """Names of the test functions of a file of `tests`; none where it is not there."""
    file = TESTS / place
    if not file.is_file():
        return frozenset()
    return frozenset(
        node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)
    )
