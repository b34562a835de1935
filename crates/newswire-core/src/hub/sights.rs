//! How the connections of a hub see events: by which row rule, on which channels, in which variant of the payload.

use std::sync::Arc;

use crate::channel::ChannelPattern;
use crate::event::{Batch, Picks, Run};
use crate::grants::{Action, Channels};
use crate::index::Index;
use crate::principal::{Principal, RowRule};
use crate::variant::{Variant, VariantId};

/// Variants of payloads that the connections of one hub may have at once, beside the whole ones. Each costs the making of
/// every event that its connections are sent.
pub const MAX_VARIANTS: usize = 16;

/// What a connection sees of the events that its subscriptions want.
#[derive(Debug)]
pub(crate) struct Sight {
    pub(crate) rule: RowRule,
    /// The channels that patterns stand for.
    channels: Channels,
    pub(crate) variant: VariantId,
}

impl Sight {
    fn new(principal: &Principal, variant: VariantId) -> Arc<Self> {
        let channels = principal.grants.of(Action::Subscribe).clone();
        Arc::new(Self { rule: principal.row_rule.clone(), channels, variant })
    }

    /// The channels that this pattern stands for. A name was judged when it was subscribed: so everybody who subscribes
    /// the same name shares a group.
    pub(crate) fn channels(&self, pattern: &ChannelPattern) -> Channels {
        match pattern {
            ChannelPattern::Exact(_) => Channels::All,
            ChannelPattern::Prefix(_) => self.channels.clone(),
        }
    }
}

/// The variants that connections of a hub have.
#[derive(Debug, Default)]
pub(crate) struct Sights {
    /// By [`VariantId`], beginning with 1; each with its connections. Without any, the place is free.
    variants: Vec<(Variant, usize)>,
    /// Of the present batch: what whose connections are sent of it, in their variant.
    shown: Vec<Shown>,
}

/// Events of the present batch as one variant shows them.
#[derive(Debug)]
struct Shown {
    variant: VariantId,
    /// Their indexes in the batch as it was committed, ascending.
    picks: Vec<u32>,
    batch: Arc<Batch>,
}

impl Sights {
    /// How one more connection of this principal sees. `None` where there are too many variants.
    pub(super) fn enter(&mut self, principal: &Principal) -> Option<Arc<Sight>> {
        if principal.variant == Variant::Full {
            return Some(Sight::new(principal, VariantId::FULL));
        }
        let in_use =
            |(variant, connections): &(Variant, usize)| *connections > 0 && *variant == principal.variant;
        let known = self.variants.iter().position(in_use);
        let free = || self.variants.iter().position(|(_, connections)| *connections == 0);
        let place = match known.or_else(free) {
            Some(place) => place,
            None if self.variants.len() < MAX_VARIANTS => {
                self.variants.push((Variant::Full, 0));
                self.variants.len() - 1
            }
            None => return None,
        };
        let (variant, connections) = &mut self.variants[place];
        variant.clone_from(&principal.variant);
        *connections += 1;
        let id = u16::try_from(place + 1).expect("variants are few");
        Some(Sight::new(principal, VariantId(id)))
    }

    /// A connection that saw so is gone, with all its subscriptions.
    pub(super) fn leave(&mut self, sight: &Sight) {
        if let Some(place) = usize::from(sight.variant.0).checked_sub(1)
            && let Some((_, connections)) = self.variants.get_mut(place)
        {
            *connections -= 1;
        }
    }

    /// Variants that connections have, beside whole payloads.
    pub(super) fn in_use(&self) -> usize {
        self.variants.iter().filter(|(_, connections)| *connections > 0).count()
    }

    /// Makes every event that connections of a variant are to get, once for all of them.
    pub(super) fn show(&mut self, index: &Index, batch: &Batch) {
        self.shown.clear();
        if self.variants.is_empty() {
            return;
        }
        let mut wanted: Vec<(VariantId, Vec<u32>)> = Vec::new();
        for (variant, picks) in index.shown() {
            match wanted.iter_mut().find(|(known, _)| *known == variant) {
                Some((_, all)) => all.extend_from_slice(picks),
                None => wanted.push((variant, picks.to_vec())),
            }
        }
        for (id, mut picks) in wanted {
            picks.sort_unstable();
            picks.dedup();
            let Some((variant, _)) = self.variants.get(usize::from(id.0) - 1) else { continue };
            let batch = Arc::new(batch.shown(picks.iter().map(|&index| index as usize), variant));
            self.shown.push(Shown { variant: id, picks, batch });
        }
    }

    /// The present batch is over.
    pub(super) fn forget_batch(&mut self) {
        self.shown.clear();
    }

    /// Events of the present batch as the variant shows them; `None` if there is none.
    pub(crate) fn run(&self, variant: VariantId, picks: &[u32], batch: &Arc<Batch>) -> Option<Run> {
        if variant == VariantId::FULL {
            return Run::of_indexes(batch, picks);
        }
        let shown = self.shown.iter().find(|shown| shown.variant == variant)?;
        let here = |pick: &u32| shown.picks.binary_search(pick).ok().and_then(|at| u32::try_from(at).ok());
        let picks: Vec<u32> = picks.iter().filter_map(here).collect();
        Run::of_indexes(&shown.batch, &picks)
    }

    /// The index in the batch as it was committed of the n-th event of a run.
    pub(super) fn committed(&self, run: &Run, variant: VariantId, nth: usize) -> u32 {
        let here = match &run.picks {
            Picks::All => u32::try_from(nth).expect("picks are 32 bits wide"),
            Picks::Some(picks) => picks[nth],
        };
        let shown = self.shown.iter().find(|shown| shown.variant == variant);
        shown.map_or(here, |shown| shown.picks[here as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_few_and_places_are_used_again() {
        let mut sights = Sights::default();
        let masking =
            |field: usize| Principal::new("bob").with_variant(Variant::masking([format!("field-{field}")]));
        let first: Vec<_> = (0..MAX_VARIANTS).map(|field| sights.enter(&masking(field)).unwrap()).collect();
        let again = sights.enter(&masking(3)).unwrap();
        assert_eq!(again.variant, first[3].variant);
        assert!(sights.enter(&masking(99)).is_none());
        assert_eq!(sights.enter(&Principal::new("eve")).unwrap().variant, VariantId::FULL);
        sights.leave(&first[3]);
        assert!(sights.enter(&masking(99)).is_none(), "another connection still sees so");
        sights.leave(&again);
        assert_eq!(sights.in_use(), MAX_VARIANTS - 1);
        assert_eq!(sights.enter(&masking(99)).unwrap().variant, first[3].variant);
    }
}
