//! Tests at each kind of hook. Never at one that this kernel does not have: TCX before Linux 6.6.

use backend_ebpf::kernel::Hook;

/// Runs a test if this kernel has such hooks.
pub(crate) fn run_at(hook: Hook, test: fn(Hook)) {
    if Hook::every().contains(&hook) {
        test(hook);
    } else {
        println!("this kernel has no TCX");
    }
}

/// A function of a hook as two tests.
macro_rules! at_each_hook {
    ($($test:ident),+ $(,)?) => {
        $(mod $test {
            #[test]
            fn at_tcx() {
                crate::each::run_at(backend_ebpf::kernel::Hook::Tcx, super::$test);
            }

            #[test]
            fn at_clsact() {
                crate::each::run_at(backend_ebpf::kernel::Hook::Clsact, super::$test);
            }
        })+
    };
}

pub(crate) use at_each_hook;
