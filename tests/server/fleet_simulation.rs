//! Twenty instances on one store, in virtual time: guests are claimed by several devices, users are denied, allowed and forgotten, while
//! instances are cut off for minutes, their clocks differ, answers get lost, come late, come twice or are somebody else's.
//!
//! 60 lives, or as many as `FLEET_SEEDS` says; 10,000 before a release. `FLEET_SEED` names the one to look at: it goes the same way
//! each time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cognito_identity_pool::server::{GuestClaim, GuestTicket, VendRequest};
use cognito_identity_pool::{Error, ErrorKind, IdentityAdmin, IdentityId, TokenVendor};

use crate::fleet::{Fleet, Link, SECOND, STALENESS};
use crate::model::Random;
use crate::stage::user;

const INSTANCES: u64 = 20;
/// How many of them can forget users.
const ADMINISTRATIONS: u64 = 4;
/// Who is only vended to; who is denied, and allowed again; who is forgotten.
const HONEST: [&str; 2] = ["alice", "bob"];
const DENIED: &str = "mallory";
const FORGOTTEN: [&str; 2] = ["carol", "dave"];

struct Instance {
    vendor: TokenVendor,
    admin: Option<IdentityAdmin>,
    link: Link,
}

/// What is known of a life, and what must not happen in it.
#[derive(Default)]
struct Life {
    /// From then on nobody is vended to who is denied, until it is taken back.
    denied_from: Option<tokio::time::Instant>,
    /// Users who are forgotten: their app lets nobody in any more.
    forgotten: BTreeSet<&'static str>,
    /// Which devices have got a ticket for which guest, and which have linked it.
    tickets: BTreeMap<String, BTreeSet<u64>>,
    linked: BTreeMap<String, BTreeSet<u64>>,
    /// How often honest users were vended to, of how often they asked: a life in which nothing happens proves nothing.
    vends: usize,
    vended: usize,
}

struct Simulation {
    seed: u64,
    fleet: Fleet,
    instances: Vec<Instance>,
    life: Mutex<Life>,
    random: Mutex<Random>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        let fleet = Fleet::new(seed);
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let instances = (0..INSTANCES)
            .map(|number| {
                let link = fleet.link(random.next());
                let config = fleet.config(30 + random.below(61));
                link.state.faulty.store(true, Ordering::SeqCst);
                Instance {
                    vendor: fleet.builder(&link, &config).build().unwrap(),
                    // Making one costs as much as all that it does here.
                    admin: (number < ADMINISTRATIONS).then(|| fleet.admin(&link, &config)),
                    link,
                }
            })
            .collect();
        Self {
            seed,
            fleet,
            instances,
            life: Mutex::default(),
            random: Mutex::new(random),
        }
    }

    fn below(&self, n: u64) -> u64 {
        self.random.lock().unwrap().below(n)
    }

    fn instance(&self) -> &Instance {
        let number = self.below(INSTANCES);
        &self.instances[usize::try_from(number).unwrap()]
    }

    fn guest(&self) -> IdentityId {
        IdentityId::new(self.fleet.network.cognito.lock().unwrap().make()).unwrap()
    }

    async fn pause(&self, most: u64) {
        tokio::time::sleep(Duration::from_millis(1 + self.below(most * 1_000))).await;
    }

    fn life<T>(&self, then: impl FnOnce(&mut Life) -> T) -> T {
        then(&mut self.life.lock().unwrap())
    }

    /// An error that an honest user meets.
    fn passes(&self, what: &str, error: &Error) {
        assert!(error.is_retryable(), "seed {}: {what}: {error:?}", self.seed);
    }

    async fn until_done<T>(&self, what: &str, mut attempt: impl AsyncFnMut(&Instance) -> Result<T, Error>) -> T {
        for _ in 0..400 {
            match attempt(self.instance()).await {
                Ok(done) => return done,
                Err(error) => self.passes(what, &error),
            }
            self.pause(5).await;
        }
        panic!("seed {}: {what} never succeeds", self.seed);
    }

    /// Somebody who signs in again and again, at whichever instance.
    async fn client(&self, name: &'static str) {
        let who = user(name);
        for _ in 0..12 {
            self.pause(40).await;
            if self.life(|life| life.forgotten.contains(name)) {
                return;
            }
            let fresh = self.below(3) == 0;
            let instance = self.instance();
            let denied_from = self.life(|life| life.denied_from);
            let result = instance
                .vendor
                .vend_with(VendRequest::new(who.clone()).fresh(fresh))
                .await;
            if HONEST.contains(&name) {
                self.life(|life| {
                    life.vends += 1;
                    life.vended += usize::from(result.is_ok());
                });
            }
            match result {
                Ok(_) if name == DENIED => {
                    let now = tokio::time::Instant::now();
                    let still = self.life(|life| life.denied_from);
                    assert!(
                        still != denied_from || denied_from.is_none_or(|from| now <= from + STALENESS),
                        "seed {}: a denied user was vended to",
                        self.seed
                    );
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Denied && name == DENIED => {}
                Err(error) => self.passes(name, &error),
            }
        }
    }

    async fn denials(&self) {
        let who = user(DENIED);
        for _ in 0..2 {
            self.pause(90).await;
            self.until_done("deny", async |instance| instance.vendor.deny(&who).await)
                .await;
            self.life(|life| life.denied_from = Some(tokio::time::Instant::now()));
            tokio::time::sleep(STALENESS * 2).await;
            self.life(|life| life.denied_from = None);
            self.until_done("allow", async |instance| instance.vendor.allow(&who).await)
                .await;
        }
        // Whoever has a list from before still refuses.
        tokio::time::sleep(STALENESS).await;
        self.until_done("vend after allow", async |instance| {
            let vended = instance.vendor.vend(&who).await.map(drop);
            let denied = vended.as_ref().is_err_and(|error| error.kind() == ErrorKind::Denied);
            assert!(
                !denied,
                "seed {}: an instance has not heard that the user is allowed",
                self.seed
            );
            vended
        })
        .await;
    }

    /// The account is ended at the app while its sessions go on; whoever vends meanwhile does not make it anew.
    async fn forgets(&self, name: &'static str) {
        self.pause(150).await;
        let who = user(name);
        let forget = async |instance: &Instance| {
            let Some(admin) = &instance.admin else {
                return Ok(false);
            };
            let report = admin.forget_user(&who, &[&instance.vendor]).await?;
            if report.is_complete() {
                return Ok(true);
            }
            Err(report.failure.expect("something has kept it from being complete"))
        };
        while !self.until_done("forget", forget).await {}
        self.life(|life| life.forgotten.insert(name));
    }

    /// A device that has a guest, or a thief who has come by its id.
    async fn device(&self, number: u64, guest: &IdentityId) {
        let device = format!("device-{number}");
        let who = user(&format!("user-of-{number}"));
        let mut is_linked = false;
        let mut ticket: Option<GuestTicket> = None;
        for _ in 0..6 {
            self.pause(30).await;
            let vendor = &self.instance().vendor;
            match vendor.issue_guest_claim(guest, &device).await {
                Ok(issued) => {
                    ticket = Some(issued);
                    self.life(|life| {
                        life.tickets
                            .entry(guest.as_str().to_owned())
                            .or_default()
                            .insert(number)
                    });
                }
                Err(error) if error.kind() == ErrorKind::ClaimRefused => {}
                Err(error) => self.passes("ticket", &error),
            }
            let Some(ticket) = &ticket else { continue };
            let claim = GuestClaim::new(ticket.expose(), guest.clone(), &device);
            match self.instance().vendor.link_guest(&who, claim).await {
                Ok(_) => is_linked = true,
                Err(error) => self.passes("link", &error),
            }
        }
        // Whoever has the guest is never locked out, however often the store has failed.
        if !is_linked {
            let link = async |instance: &Instance| {
                let ticket = match instance.vendor.issue_guest_claim(guest, &device).await {
                    Err(error) if error.kind() == ErrorKind::ClaimRefused => return Ok(false),
                    issued => issued?,
                };
                let claim = GuestClaim::new(ticket.expose(), guest.clone(), &device);
                instance.vendor.link_guest(&who, claim).await.map(|_| true)
            };
            is_linked = self.until_done("link", link).await;
        }
        if is_linked {
            self.life(|life| life.linked.entry(guest.as_str().to_owned()).or_default().insert(number));
        }
    }

    async fn partitions(&self) {
        for _ in 0..12 {
            self.pause(40).await;
            let link = &self.instance().link;
            link.cut(true);
            let cut_off = 1 + self.below(300);
            let link = link.clone();
            tokio::spawn(async move {
                tokio::time::sleep(SECOND * u32::try_from(cut_off).unwrap()).await;
                link.cut(false);
            });
        }
    }

    fn check(&self) {
        let seed = self.seed;
        for name in FORGOTTEN {
            assert_eq!(
                self.fleet.identity_of(&user(name)),
                None,
                "seed {seed}: {name} has come back"
            );
        }
        let life = self.life.lock().unwrap();
        for (guest, owners) in life.tickets.iter().chain(&life.linked) {
            assert_eq!(owners.len(), 1, "seed {seed}: {guest} belongs to {owners:?}");
        }
        assert!(
            life.vended * 4 > life.vends && life.vends == 24,
            "seed {seed}: {} of {} vends",
            life.vended,
            life.vends
        );
        assert_eq!(life.linked.len(), 2, "seed {seed}: guests that were linked");
    }
}

async fn life(seed: u64) -> String {
    let simulation = Arc::new(Simulation::new(seed));
    let this = &*simulation;
    let guests = [this.guest(), this.guest()];
    let clients = HONEST.into_iter().chain([DENIED]).chain(FORGOTTEN);
    let clients = futures_util::future::join_all(clients.map(|name| this.client(name)));
    let devices = (0..6).map(|number| this.device(number, &guests[usize::from(number % 2 == 1)]));
    let devices = futures_util::future::join_all(devices);
    let forgets = futures_util::future::join_all(FORGOTTEN.map(|name| this.forgets(name)));
    tokio::join!(this.partitions(), this.denials(), clients, devices, forgets);
    // What is on its way arrives.
    tokio::time::sleep(SECOND * 30).await;
    this.check();
    let life = this.life.lock().unwrap();
    let trace = this.fleet.network.cognito.lock().unwrap().identities();
    format!("{} {} {:?} {trace:?}", life.vends, life.vended, life.linked)
}

fn run(seed: u64) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(life(seed))
}

#[test]
fn whatever_happens_instances_agree() {
    if let Some(seed) = std::env::var("FLEET_SEED").ok().and_then(|seed| seed.parse().ok()) {
        println!("{}", run(seed));
        return;
    }
    let seeds = std::env::var("FLEET_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 1..=seeds.unwrap_or(60) {
        run(seed);
    }
}

#[test]
fn a_seed_goes_the_same_way_each_time() {
    assert_eq!(run(7), run(7));
}
