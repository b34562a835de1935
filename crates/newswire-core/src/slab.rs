//! Values under small dense numbers that are used again.

/// A growing table with free places.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(id) = self.free.pop() {
            self.places[id as usize] = Some(value);
            return id;
        }
        self.places.push(Some(value));
        u32::try_from(self.places.len() - 1).expect("memory ends before four billion entries do")
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let value = self.places.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(value)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.places.get(id as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.places.get_mut(id as usize)?.as_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.places).filter_map(|(id, place)| Some((id, place.as_ref()?)))
    }
}
