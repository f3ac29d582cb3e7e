"""What users of such tools have reported, by kind: each kind has a test of the report and at least two of its relatives.

A kind names tests, and this file counts them: a test counts once for each row of its `parametrize`.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent

GUARDS, FOLDERS, GIVEN = "workflows/test_guards.py", "workflows/test_run_folder.py", "workflows/test_given_tags.py"
WRITTEN, NUMBERS, PIXELS = "data/test_written_tables.py", "data/test_mask_numbers.py", "data/test_stored_pixels.py"
STRANGE, REFUSED, REFINE = "workflows/test_strange_names.py", "data/test_refused_inputs.py", "workflows/test_refine.py"
ARRAYS, TERMINAL, INPUTS = "refine/test_crf_arrays.py", "test_terminal.py", "workflows/test_reported_inputs.py"

KINDS: dict[str, tuple[str, ...]] = {
    "a folder taken for a run by a file that people write too": (
        f"{GUARDS}::test_a_persons_own_recipe_beside_their_photos_makes_no_run",
        f"{GUARDS}::test_a_recipe_alone_is_no_run",
        f"{GUARDS}::test_overwriting_a_run_leaves_what_training_did_not_write",
        f"{GUARDS}::test_the_demo_takes_no_folder_of_others",
    ),
    "results written over inputs": (
        f"{GUARDS}::test_no_command_writes_where_its_inputs_are",
        f"{GUARDS}::test_overwriting_results_spares_foreign_and_changed_files",
        f"{INPUTS}::test_masks_never_become_a_class_of_their_photos",
    ),
    "tags under headers that nobody reads": (f"{WRITTEN}::test_the_same_rows_in_every_writing",),
    "objects stored as 255": (
        f"{NUMBERS}::test_objects_stored_as_255_are_refused_everywhere",
        f"{NUMBERS}::test_outlines_of_255_beside_classes_are_as_ever",
        f"{NUMBERS}::test_a_class_that_tags_promise_and_no_mask_holds",
        f"{NUMBERS}::test_evaluate_names_a_class_that_tags_promise_and_no_truth_holds",
        f"{NUMBERS}::test_refine_names_a_class_that_tags_promise_and_no_mask_holds",
    ),
    "numbers of classes without their names": (
        f"{FOLDERS}::test_a_finished_run_is_not_read_with_other_classes",
        f"{FOLDERS}::test_the_same_names_in_another_order_are_other_classes",
    ),
    "background in other spellings": (
        f"{NUMBERS}::test_lists_of_classes_give_the_numbers_their_names",
        f"{NUMBERS}::test_lists_that_leave_numbers_open_are_refused",
    ),
    "photos passed over": (
        f"{GIVEN}::test_what_lies_among_photos_is_read_or_named",
        f"{GIVEN}::test_what_lies_in_a_zip_file_is_read_or_named",
        f"{GIVEN}::test_two_spellings_of_one_name_are_named",
        f"{PIXELS}::test_jpegs_under_their_other_names",
        f"{PIXELS}::test_photos_of_phones",
    ),
    "rows without tags": (
        f"{WRITTEN}::test_json_without_the_key_is_a_bad_row",
        f"{WRITTEN}::test_line_separators_are_letters_in_json",
        "data/test_tables.py::test_bad_json_lines_are_all_named",
    ),
    "pixels that are stored in other ways": (
        f"{PIXELS}::test_tiffs_of_16_bits",
        f"{PIXELS}::test_tiffs_of_8_bits",
        f"{PIXELS}::test_values_that_a_photo_cannot_have_are_refused",
        f"{PIXELS}::test_the_first_page_that_is_no_thumbnail_is_read",
        f"{PIXELS}::test_transparency_of_16_bits",
    ),
    "masks of few bits, and renumbered palettes": (
        f"{NUMBERS}::test_gray_of_few_bits_is_not_stretched",
        f"{NUMBERS}::test_a_palette_of_grays_that_a_program_renumbered",
        f"{NUMBERS}::test_a_palette_of_voc_s_colors_that_a_program_renumbered",
        f"{NUMBERS}::test_evaluate_reads_masks_of_few_bits_and_renumbered_palettes",
    ),
    "several separators": (
        f"{WRITTEN}::test_two_separators_in_one_table",
        f"{WRITTEN}::test_names_of_several_words",
        "data/test_tables.py::test_names_with_spaces_and_commas",
    ),
    "other things than probabilities": (f"{REFINE}::test_one_wrong_array_costs_itself_alone",),
    "refined masks of two photos or two settings": (
        f"{INPUTS}::test_photos_that_differ_in_their_suffix_are_not_picked",
        f"{GUARDS}::test_refined_masks_of_other_settings_are_not_mixed",
    ),
    "a set of YOLO's opened elsewhere": (
        "outputs/test_foreign_outputs.py::test_labels_lie_where_ultralytics_looks_for_them_and_come_back",
        "outputs/test_foreign_outputs.py::test_a_set_with_labels_in_the_former_place_is_still_read",
        "outputs/test_foreign_outputs.py::test_ultralytics_opens_the_set_from_any_folder",
    ),
    "line ends and long cells": (
        f"{WRITTEN}::test_cells_of_any_length",
        f"{WRITTEN}::test_the_same_rows_in_json",
        "data/test_tables.py::test_spellings_of_the_same_table",
    ),
    "arrays of another layout": (
        f"{ARRAYS}::test_the_layout_changes_no_bit",
        "data/test_given.py::test_predict_and_predict_many_take_them_all",
    ),
    "names that are not UTF-8": (
        f"{STRANGE}::test_a_name_that_is_not_utf8_leaves_the_others_done",
        f"{STRANGE}::test_names_that_are_not_utf8_in_an_evaluation",
        f"{STRANGE}::test_a_class_folder_whose_name_is_not_utf8_is_refused_before_training",
    ),
    "names taken for markup": (
        f"{TERMINAL}::test_a_name_is_printed_as_it_is_and_moves_nothing",
        f"{TERMINAL}::test_the_folder_of_results_is_named_with_its_brackets",
    ),
    "names too long for a file": (
        f"{STRANGE}::test_the_longest_name_leaves_the_others_done",
        f"{STRANGE}::test_a_source_and_a_line_of_a_list_that_no_file_can_have",
        f"{GIVEN}::test_names_too_long_for_a_file_are_sentences",
    ),
    "numbers that are not finite": (f"{INPUTS}::test_scales_that_are_none_are_refused",),
    "kinds of pictures and tensors": (
        f"{ARRAYS}::test_tensors_of_every_kind_of_float",
        f"{ARRAYS}::test_pil_images",
        f"{ARRAYS}::test_what_is_no_image_or_no_probabilities_is_refused",
    ),
    "an option that one command has": (
        f"{REFUSED}::test_every_command_that_reads_tags_has_the_same_options",
        f"{GIVEN}::test_options_of_the_table",
        f"{WRITTEN}::test_columns_as_told",
    ),
    "classes that no writer takes": (f"{REFUSED}::test_names_that_no_class_can_have",),
    "words for no tag": (
        "data/test_tables.py::test_words_for_no_tag",
        f"{WRITTEN}::test_what_was_guessed_is_said",
        "data/test_tagged.py::test_class_folders",
    ),
    "rows that one command finds": (
        f"{GIVEN}::test_rows_name_photos_in_every_way_that_training_knows",
        f"{GIVEN}::test_double_rows_are_treated_as_training_treats_them",
        f"{GIVEN}::test_a_row_more_goes_on_and_another_tag_does_not",
    ),
    "names of refined masks": (f"{INPUTS}::test_refine_finds_photos_as_all_commands_do",),
    "terminals of other encodings": (
        f"{TERMINAL}::test_every_name_is_printed_on_every_encoding",
        f"{TERMINAL}::test_every_message_goes_through_a_pipe_of_every_encoding",
    ),
    "files of one name in two folders": (
        f"{REFUSED}::test_files_of_one_name_in_two_folders_are_told_apart",
        f"{INPUTS}::test_check_tells_files_of_one_name_apart",
    ),
    "masks of no photo": (
        f"{NUMBERS}::test_masks_of_which_none_has_a_photo_s_name",
        "data/test_sources.py::test_masks_that_fit_no_photo_are_refused",
        f"{NUMBERS}::test_a_table_that_does_not_fit_the_masks_is_named",
    ),
    "places that were relative": (
        f"{FOLDERS}::test_a_run_trained_with_relative_places_is_used_from_anywhere",
        f"{FOLDERS}::test_the_run_of_an_older_version_is_read_from_where_it_was_trained",
        f"{FOLDERS}::test_data_that_has_moved_is_named",
    ),
    "what pydensecrf means by its arguments": (
        "refine/test_dense_crf.py::test_what_the_guide_says_of_pydensecrf_s_asymmetric_matrix_and_vector",
        "refine/test_dense_crf.py::test_compatibility_matrix_is_pydensecrf_s",
    ),
    "one photo's name that costs all others": (
        f"{STRANGE}::test_names_that_a_format_cannot_hold_leave_the_others_done",
    ),
    "folders of splits": (
        "data/test_tagged.py::test_splits_are_no_classes",
        "data/test_tagged.py::test_a_voc_folder_is_no_set_of_class_folders",
        "data/test_tagged.py::test_a_subfolder_named_like_the_folder",
    ),
}


@cache
def cases(file: str) -> dict[str, int]:
    """How many cases each test of a file has; rows that are not written out there count as three."""
    counts: dict[str, int] = {}
    for node in ast.parse((HERE / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            counts[node.name] = 1
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.parametrize":
                    rows = mark.args[1]
                    counts[node.name] *= len(rows.elts) if isinstance(rows, ast.List | ast.Tuple) else 3
    return counts


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_the_report_and_two_relatives(kind: str) -> None:
    found = 0
    for test in KINDS[kind]:
        file, _, name = test.partition("::")
        assert name in cases(file), f"{test} is not there"
        found += cases(file)[name]
    assert found >= 3
