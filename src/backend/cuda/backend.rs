//! The [`Backend`] contract, operation by operation, as launches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::arguments::Arguments;
use super::device::{Bound, Device, Unavailable, failed};
use super::events::Timer;
use super::kernels::Kernel;
use super::linear::{ProductShape, Tile, Variant, tile, variant};
use super::matrix::{Element, Matrix};
use super::memory::{DeviceScratch, Transfers};
use super::queue::{Launch, Queue};
use super::readout::Readouts;
use super::rows::Constants;
use super::weights::{self, DeviceWeights};
use super::{attention, basis, call, linear, readout, rows};
use crate::backend::{
    Attention, Backend, BasisOn, DeviceError, Embedding, Linear, Norm, Precision, Probe, Readout,
    ReadoutSpec, RowColumn, Rows, Same, Store,
};
use crate::model::{Checkpoint, Config};
use crate::plan::tables::Ref;
use crate::plan::writes::{Call, Write};

/// A GPU as a device, with one model's weights in its memory.
pub struct Cuda {
    pub(super) config: Config,
    pub(super) device: Arc<Device>,
    pub(super) weights: DeviceWeights,
    precision: Precision,
    /// The arithmetic of every linear layer, where it is not left to the table.
    variant: Option<Variant>,
    /// The type of branch activations.
    pub(super) branch: Element,
    /// The tile of every linear layer, where it is not left to the number of rows.
    tile: Option<Tile>,
    queue: Mutex<Queue>,
    /// What does not go with a pass's tables.
    pub(super) transfers: Transfers,
    /// What operations write on the device for kernels of their own, kept from one to the next.
    scratch: Mutex<DeviceScratches>,
    flops: AtomicU64,
    _taken: Taken,
}

/// What operations write on the device for kernels of their own.
#[derive(Default)]
pub(super) struct DeviceScratches {
    /// Readouts.
    pub readouts: DeviceScratch<5>,
    /// Adjoints.
    pub adjoints: DeviceScratch<2>,
}

/// A device being one model's, until this goes.
struct Taken(Arc<Device>);

impl Taken {
    fn new(device: &Arc<Device>) -> Option<Self> {
        device.take().then(|| Self(device.clone()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Cuda {
    /// Bytes of a model's weights on a device.
    pub fn weight_bytes(config: &Config, precision: Precision) -> u64 {
        weights::bytes(config, Element::of(precision))
    }

    /// Uploads a model. `progress` is told how many bytes are there.
    ///
    /// The arithmetic of linear layers is the one that [`variant`] gives.
    ///
    /// # Errors
    ///
    /// [`Unavailable::TooLittleMemory`], or what the driver says.
    ///
    /// # Panics
    ///
    /// For [`Precision::F64`], which is the CPU's alone.
    pub fn new(
        device: Arc<Device>,
        model: &Checkpoint,
        precision: Precision,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, Unavailable> {
        let config = &model.config;
        let (branch, needed) = (
            Element::of(precision),
            Self::weight_bytes(config, precision),
        );
        let too_little = |free| Unavailable::TooLittleMemory {
            name: device.name.clone(),
            free,
            needed,
        };
        let (free, _) = device.memory().map_err(driver)?;
        let taken = Taken::new(&device).ok_or(Unavailable::Taken)?;
        if free < needed {
            return Err(too_little(free));
        }
        let weights = DeviceWeights::upload(&device, model, branch, progress);
        let weights = weights.map_err(|error| match error {
            DeviceError::OutOfMemory { .. } => too_little(free),
            other => driver(other),
        })?;
        Ok(Self {
            config: config.clone(),
            weights,
            precision,
            variant: None,
            branch,
            tile: None,
            queue: Mutex::new(Queue::new(device.clone())),
            transfers: Transfers::new(&device),
            scratch: Mutex::default(),
            flops: AtomicU64::new(0),
            device,
            _taken: taken,
        })
    }

    /// The same with another arithmetic of f32 linear layers, or with one tile for every shape: for
    /// measuring them, and for showing that tiles change no bit.
    ///
    /// # Panics
    ///
    /// If the variant's operands are not of the precision's type.
    pub fn with(mut self, variant: Option<Variant>, tile: Option<Tile>) -> Self {
        let fits = variant.is_none_or(|v| v.element() == self.branch);
        assert!(fits, "the weights are uploaded already");
        (self.variant, self.tile) = (variant, tile);
        self
    }

    /// The tile of linear layers that are launched together, in one arithmetic.
    pub fn tile(&self, variant: Variant, shapes: &[ProductShape]) -> Tile {
        match self.tile {
            Some(tile) => tile.among(Tile::of_linear(variant)),
            None => tile(variant, shapes, self.device.processors),
        }
    }

    /// The tile of the readout of so many rows. Vocabularies are so wide that either fills the device.
    pub fn readout_tile(&self, rows: usize) -> Tile {
        let chosen = if rows <= 2 * Tile::Small.rows() {
            Tile::Small
        } else {
            Tile::Large
        };
        self.tile.unwrap_or(chosen).among(&Tile::OF_READOUT)
    }

    /// The device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The arithmetic of linear layers over K inputs.
    pub fn variant(&self, inputs: usize) -> Variant {
        let choose = || variant(self.precision, self.device.capability, inputs);
        self.variant.unwrap_or_else(choose)
    }

    pub(super) fn scratch(&self) -> MutexGuard<'_, DeviceScratches> {
        // what a panic leaves is memory, or none
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // a panic while recording leaves launches that are whole
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a launch that does so many floating-point operations.
    pub(super) fn record(&self, flops: u64, launch: impl FnOnce(&mut Queue) -> Launch) {
        let mut queue = self.queue();
        let launch = launch(&mut queue);
        queue.launch(flops, launch);
    }

    /// Queues a kernel of which each warp takes a row, if there are any.
    pub(super) fn record_rows<A: Into<Arguments>>(
        &self,
        kernel: Kernel,
        count: usize,
        arguments: impl FnOnce(&mut Queue) -> A,
    ) {
        if count > 0 {
            self.record(0, |queue| Launch::rows(kernel, count, arguments(queue)));
        }
    }

    pub(super) fn fail(&self, error: DeviceError) {
        self.queue().fail(error);
    }

    /// Puts everything that waits on the stream.
    ///
    /// # Errors
    ///
    /// [`DeviceError`]: the first thing that went wrong since the last flush.
    pub fn flush(&self) -> Result<(), DeviceError> {
        self.flush_and(|_| Ok(()))
    }

    /// The same, and more behind it.
    pub(super) fn flush_and(
        &self,
        then: impl FnOnce(&Bound<'_>) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let flops = self.queue().flush(then)?;
        self.flops.fetch_add(flops, Ordering::Relaxed);
        Ok(())
    }

    /// Seconds of the device's time that operations take: their launches alone, without tables and
    /// results.
    ///
    /// # Errors
    ///
    /// [`DeviceError`]: their own, or of what was queued before.
    pub fn time(
        &self,
        timer: &Arc<Timer>,
        operations: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<f64, DeviceError> {
        self.flush()?;
        self.queue().timer = Some(timer.clone());
        let done = operations().and_then(|()| self.flush());
        self.queue().timer = None;
        let seconds = timer.take();
        done.map(|()| seconds)
    }

    /// Bytes that a number takes in a matrix.
    pub fn bytes_of(&self, store: Store) -> usize {
        self.element(store).bytes()
    }

    /// What was made, or a stand-in for it and the error for whoever asks for a result.
    fn or_broken(&self, made: Result<Matrix, DeviceError>, width: usize, store: Store) -> Matrix {
        made.unwrap_or_else(|error| {
            self.fail(error);
            Matrix::broken(width, self.element(store))
        })
    }

    /// Makes something that takes memory. Where there is too little, what is kept of scratch is given back, and
    /// what waits is run first, so that memory that only it names is given back, too; then it is tried once
    /// more.
    pub(super) fn with_room<T>(
        &self,
        mut make: impl FnMut() -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        match make() {
            Err(DeviceError::OutOfMemory { .. }) => {
                *self.scratch() = DeviceScratches::default();
                self.flush()?;
                self.device.wait()?;
                // pieces that are too small alone
                self.device.trim().map_err(failed("freeing memory"))?;
                make()
            }
            made => made,
        }
    }

    /// Drops everything that waits after an error, and says what went wrong first.
    pub(super) fn abandon(&self, error: DeviceError) -> DeviceError {
        self.fail(error.clone());
        self.flush().err().unwrap_or(error)
    }

    fn element(&self, store: Store) -> Element {
        match store {
            Store::Residual | Store::Keys => Element::F32,
            Store::Branch | Store::Heads => self.branch,
        }
    }
}

fn driver(error: DeviceError) -> Unavailable {
    Unavailable::Driver(error.to_string())
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // what still waits is nobody's any more
        *self.queue() = Queue::new(self.device.clone());
        let _ = self.device.wait();
    }
}

impl Backend for Cuda {
    type Matrix = Matrix;
    type Constants = Constants;
    type Readouts = Readouts;

    fn config(&self) -> &Config {
        &self.config
    }

    fn matrix(&self, rows: usize, width: usize, store: Store) -> Matrix {
        let made = self.with_room(|| {
            let (device, size) = (&self.device, (rows, width));
            Matrix::new(device, &self.config, self.branch, size, store)
        });
        self.or_broken(made, width, store)
    }

    fn resize(&self, matrix: &mut Matrix, rows: usize) {
        if let Err(error) = self.with_room(|| matrix.resize(&self.device, rows)) {
            self.fail(error);
        }
    }

    fn value_bytes(&self) -> usize {
        size_of::<f32>()
    }

    fn same_type(&self, a: Store, b: Store) -> bool {
        self.element(a) == self.element(b)
    }

    /// A few thousand rows fill the device and hide the launches; more only take memory.
    fn chunk_bytes(&self) -> u64 {
        2 << 30
    }

    fn upload(&self, rows: usize, width: usize, store: Store, values: &[f64]) -> Matrix {
        let matrix = self.matrix(rows, width, store);
        if matrix.rows == rows
            && let Err(error) = matrix.write(&self.transfers, values)
        {
            self.fail(error);
        }
        matrix
    }

    fn constants(&self, values: &[f64]) -> Constants {
        let upload = |element: Element| {
            let bytes = element.encode(values.iter().copied());
            let memory = self.with_room(|| self.device.allocate(bytes.len()))?;
            self.transfers.write(memory.pointer, &bytes)?;
            Ok(memory)
        };
        let upload = |element: Element| {
            let uploaded: Result<_, DeviceError> = upload(element);
            uploaded.map_err(|error| self.fail(error)).ok()
        };
        let some = !values.is_empty();
        Constants {
            full: some.then(|| upload(Element::F32)).flatten(),
            branch: (some && self.branch != Element::F32)
                .then(|| upload(self.branch))
                .flatten(),
        }
    }

    fn read(&self, matrix: &Matrix) -> Result<Vec<f64>, DeviceError> {
        self.flush()?;
        matrix.read(&self.transfers)
    }

    fn same(&self, pairs: &[Same<'_, Matrix>]) -> Result<Vec<bool>, DeviceError> {
        self.flush()?;
        rows::same(self, pairs)
    }

    fn embed(&self, table: Embedding, index: &[u32], out: &mut Matrix) {
        rows::embed(self, table, index, out);
    }

    fn gather(&self, rows: &Rows<'_, Matrix>, out: &mut Matrix, at: usize) {
        rows::gather(self, rows, at, None, out);
    }

    fn keep(&self, matrix: &Matrix, from: &[u32], kept: &mut Matrix, to: &[u32]) {
        let refs: Vec<Ref> = from.iter().map(|row| Ref::own(*row as usize)).collect();
        let rows = Rows {
            own: matrix,
            cache: None,
            refs: &refs,
        };
        rows::gather(self, &rows, 0, Some(to), kept);
    }

    fn add(&self, a: &Rows<'_, Matrix>, b: &Rows<'_, Matrix>, out: &mut Matrix, at: usize) {
        debug_assert_eq!(at, 0);
        rows::add(self, a, b, out);
    }

    fn layer_norm(&self, norm: Norm, input: &Rows<'_, Matrix>, out: &mut Matrix) {
        rows::layer_norm(self, norm, input, out);
    }

    fn layer_norm_scale(&self, input: &Rows<'_, Matrix>, scale: &mut Matrix) {
        rows::layer_norm_scale(self, input, scale);
    }

    fn layer_norm_normalize(&self, input: &Rows<'_, Matrix>, scale: &Matrix, out: &mut Matrix) {
        rows::layer_norm_normalize(self, input, scale, out);
    }

    fn layer_norm_affine(&self, norm: Norm, normalized: &Matrix, rows: usize, out: &mut Matrix) {
        rows::layer_norm_affine(self, norm, normalized, rows, out);
    }

    fn linear(&self, linear: &Linear<'_, Matrix>, out: &mut Matrix) {
        linear::linears(self, &[(linear, out)]);
    }

    fn linears(&self, linears: &mut [(Linear<'_, Matrix>, &mut Matrix)]) {
        let linears: Vec<_> = linears
            .iter()
            .map(|(linear, out)| (linear, &**out))
            .collect();
        linear::linears(self, &linears);
    }

    fn activate(&self, pre: &Matrix, rows: &[u32], out: &mut Matrix) {
        rows::activate(self, pre, rows, out);
    }

    fn attention(
        &self,
        attention: &Attention<'_, Matrix>,
        kept: &mut [Matrix],
        constants: &Constants,
        out: &mut Matrix,
    ) {
        attention::attention(self, attention, kept, constants, out);
    }

    fn overwrite(
        &self,
        matrix: &mut Matrix,
        writes: &[Write],
        kept: &[Matrix],
        constants: &Constants,
    ) {
        rows::overwrite(self, matrix, writes, kept, constants);
    }

    fn encode(
        &self,
        basis: &BasisOn<Matrix>,
        probes: &[Probe],
        matrix: &Matrix,
        kept: &[Matrix],
        constants: &Constants,
        out: &mut Matrix,
    ) {
        basis::encode(self, basis, probes, matrix, (kept, constants), out);
    }

    fn decode(
        &self,
        basis: &BasisOn<Matrix>,
        coordinates: &Matrix,
        places: &[RowColumn],
        matrix: &mut Matrix,
    ) {
        basis::decode(self, basis, coordinates, places, matrix);
    }

    fn call(&self, matrix: &mut Matrix, calls: &[Call], kept: &[Matrix]) {
        if let Err(error) = call::call(self, matrix, calls, kept) {
            self.fail(error);
        }
    }

    fn readout(
        &self,
        input: &Matrix,
        rows: usize,
        spec: &ReadoutSpec,
    ) -> Result<Readouts, DeviceError> {
        readout::readout(self, input, rows, spec)
    }

    fn finish(&self, readouts: Readouts) -> Result<Vec<Readout>, DeviceError> {
        readouts.finish(&self.transfers)
    }

    /// A pass that the device had no room for counts as far as it got.
    fn executed_flops(&self) -> u64 {
        self.flops.load(Ordering::Relaxed)
    }
}
