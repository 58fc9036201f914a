//! Containers on the real kernel: what they see, what they may, how they end, and what is left.
//!
//! Every test needs root or a user namespace; the names say so, so that the ordinary profile of
//! the test runner leaves them out.
#![forbid(unsafe_code)]

mod common;
mod ends;
mod escape;
mod isolation;
mod layers;
mod limits;
mod namespaces;
mod rootless;
mod stress;

use std::process::ExitCode;

use corten_runtime::{INIT_ARGUMENT, init_main};
use corten_testkit::harness::{self, Test};

/// Lists tests of modules by their paths.
macro_rules! tests {
    ($($module:ident: $($name:ident),+ $(,)?);+ $(;)?) => {
        &[$($(Test {
            name: concat!("privileged::", stringify!($module), "::", stringify!($name)),
            run: $module::$name,
            in_first_thread: $module::IN_FIRST_THREAD,
        }),+),+]
    };
}

const TESTS: &[Test] = tests! {
    isolation:
        every_namespace_is_the_containers_own,
        the_first_process_is_process_1_and_sees_no_other,
        root_of_the_container_is_nobody_on_the_host,
        capabilities_are_few_and_a_filter_is_on,
        another_user_has_no_capability_and_its_groups,
        ids_of_directory_services_fit,
        system_paths_are_masked_or_read_only,
        devices_are_the_usual_ones_and_work,
        nothing_of_the_host_leaks_in,
        the_environment_is_what_was_given,
        small_files_are_the_containers_own,
        the_network_of_none_is_a_loopback_interface,
        the_network_of_the_host_is_shared_when_asked_for,
        the_users_of_the_host_are_shared_when_asked_for,
        a_terminal_is_the_programs_own,
        an_init_reaps_and_passes_the_exit_code_on,
        settings_of_the_kernel_are_set_in_the_container,
        low_ports_are_open_to_every_user,
        new_privileges_are_allowed_when_asked_for;
    layers:
        changes_keep_their_owners_on_disk,
        a_read_only_root_takes_no_write_but_has_its_mount_points,
        changes_in_memory_vanish,
        many_layers_are_one_file_system,
        a_root_without_layers_is_its_upper_directory,
        old_kernels_get_their_layers_by_path,
        volumes_keep_the_owners_of_the_host,
        a_read_only_volume_takes_no_write,
        a_volume_of_one_file_is_that_file,
        mounts_below_a_volume_come_along_when_asked_for,
        memory_file_systems_have_their_options,
        device_nodes_of_an_image_do_nothing,
        a_link_in_the_image_does_not_lead_a_mount_outside,
        a_file_system_without_mapped_owners_means_no_user_namespace_and_says_so,
        file_capabilities_are_those_of_the_image_on_disk;
    ends:
        exit_codes_are_the_programs,
        a_signal_is_told_from_a_code,
        a_missing_program_is_127,
        what_cannot_be_executed_is_126_with_the_reason,
        a_missing_working_directory_is_named,
        output_arrives_whole_and_apart,
        input_is_nothing_or_the_callers,
        a_caller_that_ignores_signals_is_as_good_as_any,
        signals_are_passed_on,
        a_cancelled_container_ends,
        a_killed_caller_takes_its_container_along,
        a_program_cannot_outlive_its_caller,
        a_broken_seccomp_profile_starts_nothing,
        a_step_that_fails_stops_the_container,
        a_reader_that_goes_away_ends_the_writer;
    limits:
        memory_is_limited_and_the_kill_is_told,
        a_killed_child_is_told_although_the_program_goes_on,
        processes_are_limited_with_a_group,
        processes_are_limited_without_a_group,
        processor_limits_are_visible_inside,
        limits_of_processes_are_set,
        a_group_of_a_dead_caller_is_removed,
        groups_of_the_dead_go_at_the_next_start_whatever_its_limits;
    namespaces:
        a_container_is_in_the_namespaces_of_another_one,
        a_container_with_users_of_its_own_is_in_the_namespaces_of_another_one,
        processes_among_those_of_the_host_end_with_the_first,
        messages_names_and_groups_of_the_host_are_shared_when_asked_for,
        ids_are_those_that_were_chosen,
        mounts_of_the_host_reach_a_container_only_when_asked_for,
        mounts_of_a_container_reach_the_host_only_when_asked_for,
        a_namespace_that_is_not_there_stops_the_container,
        processes_among_those_of_the_host_end_with_a_killed_caller;
    escape:
        file_systems_cannot_be_mounted,
        namespaces_cannot_be_made_or_entered,
        kernel_interfaces_are_refused,
        the_kernels_settings_cannot_be_written,
        devices_cannot_be_made,
        raw_sockets_and_odd_families_are_refused,
        files_cannot_be_opened_by_handle,
        outside_processes_cannot_be_traced_or_signalled,
        the_own_program_cannot_be_overwritten,
        the_root_cannot_be_left,
        control_groups_cannot_be_changed,
        masks_cannot_be_taken_off,
        a_volume_over_dev_does_not_choose_what_masks_are_made_of,
        a_root_of_the_host_with_few_capabilities_is_held_too;
    rootless:
        an_ordinary_user_runs_a_container,
        an_ordinary_user_without_a_range_has_no_other_users_inside,
        an_ordinary_user_with_a_range_has_other_users_inside,
        the_containers_root_has_no_power_over_the_callers_namespace,
        a_limit_that_cannot_be_set_is_refused,
        a_killed_rootless_caller_takes_its_container_along,
        an_ordinary_user_has_a_network_where_it_may_make_one,
        a_network_that_cannot_be_made_is_refused_with_the_real_cause;
    stress:
        a_hundred_containers_leave_nothing,
        containers_of_several_threads_do_not_disturb_each_other;
};

fn main() -> ExitCode {
    let first = std::env::args().nth(1);
    match first.as_deref() {
        Some(INIT_ARGUMENT) => init_main(),
        Some(common::CALLER) => common::caller(),
        _ => harness::main(TESTS),
    }
}
