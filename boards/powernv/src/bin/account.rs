//! The bootable image, with an account of what each partition's exits cost (`realhpt_powernv::account`).
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod image {
    use realhpt_powernv::account::Account;
    use realhpt_powernv::board::Extension;
    use realhpt_powernv::boot::Handover;
    use realhpt_powernv::start;

    pub(super) fn main(handover: Handover) -> ! {
        start::boot(handover, Counted(&ACCOUNT))
    }

    static ACCOUNT: Account = Account::new();

    /// Adds the account.
    #[derive(Debug)]
    struct Counted(&'static Account);

    /// The beginning of 2026.
    const NEW_YEAR: u64 = 1_767_225_600;

    impl Extension for Counted {
        /// Always the same: the machine's clock answers when its BMC does, which no two runs count alike.
        fn clock(&self) -> Option<u64> {
            Some(NEW_YEAR)
        }

        fn account(&self) -> Option<&Account> {
            Some(self.0)
        }
    }
}

#[cfg(target_os = "none")]
realhpt_powernv::entry!(image::main);

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this program runs on a powernv machine: `cargo run -- bench` builds it for one");
}
