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

    impl Extension for Counted {
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
