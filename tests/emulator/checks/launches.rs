//! Launches, memory and capture: what goes wrong around a kernel.

use super::*;

/// A context with a pair of buffers of 64 floats.
fn with_buffers(mut body: impl FnMut(&Driver, &Context, u64, u64)) {
    let (driver, _alone) = driver();
    let context = driver.context();
    let (input, output) = (context.upload(&numbers(64)), context.upload(&numbers(64)));
    body(&driver, &context, input, output);
    driver.reset();
    context.free(input);
    context.free(output);
    drop(context);
    assert_eq!(driver.reports(), "", "nothing is left over");
}

/// The launch is refused with INVALID_VALUE, and the report says why.
fn is_refused(driver: &Driver, result: i32, reason: &str) {
    assert_eq!(result, 1);
    assert!(
        driver.reports().contains(reason),
        "{reason}: {}",
        driver.reports()
    );
    driver.reset();
}

#[test]
fn launches_that_no_device_accepts_are_refused() {
    with_buffers(|driver, context, input, output| {
        let arguments = [Pointer(input), Pointer(output)];
        let shaped = |grid, block| {
            context.launch_on(
                std::ptr::null_mut(),
                "copy_words",
                grid,
                block,
                0,
                &arguments,
            )
        };
        is_refused(driver, shaped([1, 1, 1], [1025, 1, 1]), "too many threads");
        is_refused(driver, shaped([1, 1, 1], [32, 32, 2]), "too many threads");
        is_refused(driver, shaped([0, 1, 1], [64, 1, 1]), "without threads");
        is_refused(driver, shaped([1, 1, 1], [64, 0, 1]), "without threads");
        is_refused(driver, shaped([1, 65536, 1], [64, 1, 1]), "65535");
        is_refused(driver, shaped([1, 1, 65536], [64, 1, 1]), "65535");
        let views = [View(input, 64), F32(2.0), U32(64), View(output, 64)];
        is_refused(
            driver,
            context.launch("scale_rows", 1, 257, 0, &views),
            "__launch_bounds__(256)",
        );
        assert_eq!(context.launch("scale_rows", 1, 256, 0, &views), 0);
        let doubled: Vec<f32> = numbers(64).iter().map(|x| x * 2.0).collect();
        assert_eq!(context.download(output, 64).unwrap(), doubled);
        assert_eq!(context.function("no_such_kernel").unwrap_err(), NOT_FOUND);
    });
}

#[test]
fn dynamic_shared_memory_beyond_48_kb_needs_the_attribute() {
    with_buffers(|driver, context, _, output| {
        let launch = |kernel: &str, bytes| {
            context.launch(kernel, 1, 64, bytes, &[Pointer(output), U32(bytes)])
        };
        assert_eq!(launch("fill_dynamic", 48 * 1024), 0);
        is_refused(
            driver,
            launch("fill_dynamic", 48 * 1024 + 4),
            "dynamic shared memory",
        );
        assert_eq!(context.allow_dynamic_shared("fill_dynamic", 163 * 1024), 0);
        assert_eq!(launch("fill_dynamic", 163 * 1024), 0);
        assert_eq!(
            context.download(output, 1).unwrap(),
            [(163 * 256 - 1) as f32]
        );
        is_refused(
            driver,
            launch("fill_dynamic", 163 * 1024 + 4),
            "dynamic shared memory",
        );
        assert_ne!(
            context.allow_dynamic_shared("fill_dynamic", 163 * 1024 + 4),
            0
        );
        // Static shared memory counts, too.
        assert_eq!(context.allow_dynamic_shared("fill_both", 163 * 1024), 0);
        assert_eq!(launch("fill_both", 160 * 1024), 0);
        assert_ne!(context.synchronise(), 0);
        assert!(
            driver.reports().contains("4096 bytes of static"),
            "{}",
            driver.reports()
        );
    });
}

#[test]
fn a_pointer_argument_must_point_into_live_memory() {
    with_buffers(|driver, context, input, output| {
        let gone = context.upload(&numbers(64));
        context.free(gone);
        for (from, reason) in [(gone, "use after free"), (12345, "in no allocation")] {
            assert_eq!(
                context.launch("copy_words", 1, 64, 0, &[Pointer(from), Pointer(output)]),
                0
            );
            assert_eq!(context.synchronise(), 700);
            assert!(driver.reports().contains(reason), "{}", driver.reports());
            driver.reset();
            let views = [View(from, 64), F32(2.0), U32(64), View(output, 64)];
            assert_eq!(context.launch("scale_rows", 1, 64, 0, &views), 0);
            assert_eq!(context.synchronise(), 700);
            assert!(
                driver.reports().contains("argument 1"),
                "{}",
                driver.reports()
            );
            driver.reset();
        }
        // A null pointer may stand for "none", but not be followed.
        assert_eq!(
            context.launch("copy_words", 1, 64, 0, &[Pointer(0), Pointer(output)]),
            0
        );
        assert_eq!(context.synchronise(), 700);
        assert!(
            driver.reports().contains("a null pointer"),
            "{}",
            driver.reports()
        );
        driver.reset();
        assert_eq!(context.free(gone), 1);
        assert!(
            driver.reports().starts_with("double free"),
            "{}",
            driver.reports()
        );
        driver.reset();
        assert_eq!(context.free(input + 4), 1);
        assert_eq!(context.write(output, &numbers(65)), 1);
        assert!(
            driver.reports().contains("not inside of one allocation"),
            "{}",
            driver.reports()
        );
    });
}

#[test]
fn an_error_stays_with_the_context_and_goes_with_it() {
    let (driver, _alone) = driver();
    let (_, reports) = COUNTED.run(&driver, "off_by_one_planted", 1);
    assert!(reports.contains("bytes behind allocation"), "{reports}");
    let context = driver.context();
    assert_eq!(context.allocate(16).map(|p| context.free(p)), Ok(0));
    drop(context);
}

#[test]
fn memory_left_when_the_context_goes_is_a_leak() {
    let (driver, _alone) = driver();
    let context = driver.context();
    let (kept, lost) = (
        context.allocate(100).unwrap(),
        context.allocate(300).unwrap(),
    );
    assert_ne!(kept, lost);
    context.free(kept);
    drop(context);
    assert!(
        driver
            .reports()
            .contains("an allocation of 300 bytes is not freed")
    );
    assert!(!driver.reports().contains("100 bytes"));
}

#[test]
fn a_captured_launch_runs_when_the_graph_does() {
    with_buffers(|driver, context, input, output| {
        let stream = context.stream();
        assert_eq!(context.begin_capture(stream), 0);
        let arguments = [Pointer(input), Pointer(output)];
        context.write(0, &[0f32; 0]);
        assert!(driver.reports().contains("during the capture"));
        assert!(
            context.end_capture(stream).is_err(),
            "a copy spoils the capture"
        );
        driver.reset();

        assert_eq!(context.begin_capture(stream), 0);
        let kernel = "missing_barrier_correct";
        assert_eq!(
            context.launch_on(stream, kernel, [1; 3], [64, 1, 1], 0, &arguments),
            0
        );
        let graph = context.end_capture(stream).unwrap();
        assert_eq!(
            context.download(output, 64).unwrap(),
            numbers(64),
            "nothing ran yet"
        );
        let executable = context.instantiate(graph);
        for _ in 0..2 {
            assert_eq!(context.launch_graph(executable, stream), 0);
            let mut reversed = numbers(64);
            reversed.reverse();
            assert_eq!(context.download(output, 64).unwrap(), reversed);
        }
        context.destroy_graph(graph, executable);
        context.destroy_stream(stream);
    });
}

#[test]
fn a_graph_keeps_no_buffer_alive() {
    with_buffers(|driver, context, input, _| {
        let stream = context.stream();
        let gone = context.allocate(256).unwrap();
        assert_eq!(context.begin_capture(stream), 0);
        let arguments = [Pointer(input), Pointer(gone)];
        assert_eq!(
            context.launch_on(stream, "copy_words", [1; 3], [64, 1, 1], 0, &arguments),
            0
        );
        let graph = context.end_capture(stream).unwrap();
        let executable = context.instantiate(graph);
        context.free(gone);
        context.launch_graph(executable, stream);
        assert_eq!(context.synchronise(), 700);
        assert!(
            driver.reports().contains("use after free"),
            "{}",
            driver.reports()
        );
        driver.reset();
        context.destroy_graph(graph, executable);
        context.destroy_stream(stream);
    });
}

#[test]
fn nothing_is_allocated_copied_or_awaited_during_a_capture() {
    with_buffers(|driver, context, _, output| {
        let forbidden: [(&str, &dyn Fn()); 4] = [
            ("an allocation", &|| assert!(context.allocate(16).is_err())),
            ("a copy", &|| assert_ne!(context.write(output, &[1f32]), 0)),
            ("a synchronisation", &|| {
                assert_ne!(context.synchronise(), 0)
            }),
            ("a free", &|| assert_ne!(context.free(output), 0)),
        ];
        for (operation, forbidden) in forbidden {
            let stream = context.stream();
            assert_eq!(context.begin_capture(stream), 0);
            forbidden();
            let reports = driver.reports();
            assert!(
                reports.starts_with(operation) && reports.contains("capture"),
                "{reports}"
            );
            assert!(context.end_capture(stream).is_err());
            context.destroy_stream(stream);
            driver.reset();
        }
    });
}

#[test]
fn a_copy_into_pinned_memory_arrives_when_the_stream_is_waited_for() {
    with_buffers(|_, context, input, _| {
        let (stream, host) = (context.stream(), context.pinned(256));
        assert_eq!(context.download_later(host, input, 256, stream), 0);
        // SAFETY: 64 floats of pinned memory, written by the driver, freed below.
        let values = unsafe { std::slice::from_raw_parts(host, 64) };
        assert!(
            values.iter().all(|x| x.is_nan()),
            "read before anybody waited"
        );
        assert_eq!(context.synchronise_stream(stream), 0);
        // SAFETY: as above; taken anew, because the driver wrote meanwhile.
        let values = unsafe { std::slice::from_raw_parts(host, 64) };
        assert_eq!(values, numbers(64));
        context.free_pinned(host);
        context.destroy_stream(stream);
    });
}

/// Two streams: one is given something to bring to fresh memory, a kernel on the other reads it, with the order
/// that an event makes between them or without. What the kernel wrote, if nothing was found wrong.
fn brought_by_another_stream(
    ordered: bool,
    bring: &dyn Fn(&Context, u64, *mut std::ffi::c_void) -> *mut f32,
) -> Result<Vec<f32>, String> {
    let mut outcome = Err(String::new());
    with_buffers(|driver, context, _, output| {
        let (one, other) = (context.stream(), context.stream());
        let (fresh, event) = (context.allocate(256).unwrap(), context.event());
        let pinned = bring(context, fresh, one);
        context.record(event, one);
        if ordered {
            context.order(other, event);
        }
        let arguments = [Pointer(fresh), Pointer(output)];
        let launched = context.launch_on(other, "copy_words", [1; 3], [64, 1, 1], 0, &arguments);
        assert_eq!(launched, 0);
        outcome = match context.synchronise() {
            0 => Ok(context.download(output, 64).unwrap()),
            _ => Err(driver.reports()),
        };
        if !pinned.is_null() {
            context.free_pinned(pinned);
        }
        driver.reset();
        context.free(fresh);
        context.destroy_event(event);
        context.destroy_stream(one);
        context.destroy_stream(other);
    });
    outcome
}

#[test]
fn a_copy_of_another_stream_is_there_once_something_orders_it() {
    // from memory that is pinned, and from memory that is not
    for pinned in [false, true] {
        let bring = |context: &Context, to, stream| {
            let values = numbers(64);
            let (from, host) = match pinned {
                true => {
                    let host = context.pinned(256);
                    // SAFETY: 64 floats of pinned memory, which nobody else has yet.
                    unsafe { std::slice::from_raw_parts_mut(host, 64) }.copy_from_slice(&values);
                    (host.cast_const(), host)
                }
                false => (values.as_ptr(), std::ptr::null_mut()),
            };
            assert_eq!(context.upload_later(to, from, 256, stream), 0);
            host
        };
        assert_eq!(brought_by_another_stream(true, &bring), Ok(numbers(64)));
        let missing = brought_by_another_stream(false, &bring).unwrap_err();
        assert!(missing.starts_with("uninitialised read"), "{missing}");
    }
}

#[test]
fn a_fill_of_another_stream_is_there_once_something_orders_it() {
    let bring = |context: &Context, to, stream| {
        let one = 1f32.to_bits();
        assert_eq!(context.fill_later(to, one, 64, stream), 0);
        std::ptr::null_mut()
    };
    assert_eq!(brought_by_another_stream(true, &bring), Ok(vec![1.0; 64]));
    let missing = brought_by_another_stream(false, &bring).unwrap_err();
    assert!(missing.starts_with("uninitialised read"), "{missing}");
    // nor does the device come to it with the call that has no stream
    let bring = |context: &Context, to, _| {
        let one = 1f32.to_bits();
        assert_eq!(context.fill_later(to, one, 64, std::ptr::null_mut()), 0);
        std::ptr::null_mut()
    };
    assert!(brought_by_another_stream(false, &bring).is_err());
}

#[test]
fn an_event_stands_for_what_came_before_it_and_no_more() {
    with_buffers(|_, context, input, _| {
        let (stream, host) = (context.stream(), context.pinned(256));
        let (before, after) = (context.event(), context.event());
        context.record(before, stream);
        assert_eq!(context.download_later(host, input, 256, stream), 0);
        context.record(after, stream);
        assert_eq!(context.synchronise_event(before), 0);
        // SAFETY: 64 floats of pinned memory, written by the driver, freed below.
        let values = unsafe { std::slice::from_raw_parts(host, 64) };
        assert!(values.iter().all(|x| x.is_nan()), "the wrong event");
        assert_eq!(context.query_event(before), 0);
        assert_eq!(context.query_event(after), NOT_READY);
        assert_eq!(context.synchronise_event(after), 0);
        assert_eq!(context.query_event(after), 0);
        // SAFETY: as above; taken anew, because the driver wrote meanwhile.
        let values = unsafe { std::slice::from_raw_parts(host, 64) };
        assert_eq!(values, numbers(64));
        // whoever asks and asks again is told in the end
        assert_eq!(context.download_later(host, input, 256, stream), 0);
        context.record(after, stream);
        assert_eq!(context.query_event(after), NOT_READY);
        assert_eq!(context.query_event(after), 0);
        context.free_pinned(host);
        context.destroy_event(before);
        context.destroy_event(after);
        context.destroy_stream(stream);
    });
}

/// Pinned memory that is written again, or freed, when the copy of it has been ordered before a launch and
/// nobody has waited.
#[test]
fn pinned_memory_is_the_device_s_until_somebody_has_waited() {
    let used_again = |wait: bool, free: bool| {
        let mut said = String::new();
        with_buffers(|driver, context, _, output| {
            let (stream, host) = (context.stream(), context.pinned(256));
            // SAFETY: 64 floats of pinned memory, which only this test writes.
            let mine = || unsafe { std::slice::from_raw_parts_mut(host, 64) };
            mine().copy_from_slice(&numbers(64));
            let fresh = context.allocate(256).unwrap();
            assert_eq!(context.upload_later(fresh, host, 256, stream), 0);
            let arguments = [Pointer(fresh), Pointer(output)];
            let launched =
                context.launch_on(stream, "copy_words", [1; 3], [64, 1, 1], 0, &arguments);
            assert_eq!(launched, 0);
            let event = context.event();
            context.record(event, stream);
            if wait {
                assert_eq!(context.synchronise_event(event), 0);
            }
            match free {
                true => context.free_pinned(host),
                false => mine().fill(0.0),
            }
            assert_eq!(context.synchronise(), 0);
            assert_eq!(context.download(output, 64), Ok(numbers(64)));
            said = driver.reports();
            driver.reset();
            if !free {
                context.free_pinned(host);
            }
            context.free(fresh);
            context.destroy_event(event);
            context.destroy_stream(stream);
        });
        said
    };
    assert_eq!(used_again(true, false), "");
    assert_eq!(used_again(true, true), "");
    let changed = used_again(false, false);
    assert!(changed.contains("was changed while"), "{changed}");
    let freed = used_again(false, true);
    assert!(freed.contains("nobody has waited"), "{freed}");
}

#[test]
fn two_threads_launch_at_a_time_without_meeting() {
    let (driver, _alone) = driver();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                let context = driver.context();
                for round in 0..50 {
                    let kernel = "missing_second_barrier_correct";
                    let values: Vec<f32> = (0..64)
                        .map(|i| (i + thread * 1000 + round) as f32)
                        .collect();
                    let (input, output) = (context.upload(&values), context.allocate(256).unwrap());
                    let arguments = [Pointer(input), Pointer(output)];
                    assert_eq!(context.launch(kernel, 1, 64, 0, &arguments), 0);
                    let reversed: Vec<f32> = values.iter().rev().copied().collect();
                    assert_eq!(context.download(output, 64).unwrap(), reversed);
                    context.free(input);
                    context.free(output);
                }
            });
        }
    });
    assert_eq!(driver.reports(), "");
}
