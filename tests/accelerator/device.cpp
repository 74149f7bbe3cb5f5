// An accelerator that computes on the processor, for tests of device placement on machines without a GPU.
//
// Its tensors lie in ordinary memory and call themselves tensors of another device. Every operation copies them to the
// processor and back, after it has refused to mix the two devices as CUDA does: an index may lie on the processor, and
// so may a scalar. Random numbers are those of the processor for the same seed.

#define AT_PER_OPERATOR_HEADERS  // takes a third less time to compile
#include <torch/library.h>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>

using namespace at;

namespace {

const Device kDevice(DeviceType::PrivateUse1, 0);
const DispatchKeySet kKey(DispatchKey::PrivateUse1);

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return kDevice.type(); }
  Device exchangeDevice(Device) const override { return kDevice; }
  Device getDevice() const override { return kDevice; }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  Stream getStream(Device) const override { return Stream(Stream::DEFAULT, kDevice); }
  Stream exchangeStream(Stream stream) const override { return stream; }
  DeviceIndex deviceCount() const noexcept override { return 1; }
};

void release(void* memory) { c10::free_cpu(memory); }

struct Memory final : Allocator {
  DataPtr allocate(size_t bytes) override {
    void* memory = bytes ? c10::alloc_cpu(bytes) : nullptr;
    return {memory, memory, &release, kDevice};
  }
  DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }
};

Memory memory;

struct Random final : CPUGeneratorImpl {
  Random() {
    device_ = kDevice;
    key_set_ = kKey;
  }
  void set_current_seed(uint64_t seed) override { processor.set_current_seed(seed); }
  Generator processor = make_generator<CPUGeneratorImpl>();
};

struct Hooks final : PrivateUse1HooksInterface {
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  bool isAvailable() const override { return true; }
  Generator getNewGenerator(DeviceIndex) const override { return make_generator<Random>(); }
  const Generator& getDefaultGenerator(DeviceIndex) const override {
    static const Generator shared = make_generator<Random>();
    return shared;
  }
  Allocator* getPinnedMemoryAllocator() const override { return getCPUAllocator(); }
  bool isPinnedPtr(const void*) const override { return false; }
};

Hooks hooks;

// The same memory, seen as a tensor of the processor.
Tensor seen(const Tensor& tensor) {
  if (!tensor.defined() || tensor.is_cpu()) return tensor;
  const auto& storage = tensor.storage();
  auto same = c10::make_intrusive<StorageImpl>(
      StorageImpl::use_byte_size_t(), storage.nbytes(), DataPtr(const_cast<void*>(storage.data()), kCPU),
      getCPUAllocator(), false);
  auto view = at::detail::make_tensor<TensorImpl>(Storage(same), DispatchKeySet(DispatchKey::CPU), tensor.dtype());
  view.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  return view;
}

Tensor moved(const Tensor& tensor) { return tensor.defined() ? tensor.to(kDevice) : tensor; }

Tensor create(IntArrayRef size, std::optional<ScalarType> type, std::optional<Layout>, std::optional<Device>,
             std::optional<bool>, std::optional<MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory, kKey, dtype_or_default(type), format);
}

Tensor create_strided(IntArrayRef size, IntArrayRef stride, std::optional<ScalarType> type, std::optional<Layout>,
                     std::optional<Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory, kKey, dtype_or_default(type));
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  seen(to).copy_(seen(from));
  return to;
}

const Tensor& grow(const Tensor& tensor, IntArrayRef size, std::optional<MemoryFormat>) {
  const size_t bytes = (c10::multiply_integers(size) + tensor.storage_offset()) * tensor.element_size();
  auto* storage = tensor.storage().unsafeGetStorageImpl();
  if (bytes > storage->nbytes()) {
    DataPtr larger = memory.allocate(bytes);
    std::memcpy(larger.mutable_get(), storage->data(), storage->nbytes());
    storage->set_data_ptr_noswap(std::move(larger));
    storage->set_nbytes(bytes);
  }
  tensor.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return tensor;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  if (to.sizes() != from.sizes()) grow(to, from.sizes(), std::nullopt);
  return copy_from(from, to, false);
}

Tensor convolve(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, c10::SymIntArrayRef stride,
                   c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed,
                   c10::SymIntArrayRef output_padding, c10::SymInt groups) {
  TORCH_CHECK(x.device() == weight.device(), "Expected all tensors to be on the same device, in convolution");
  const std::optional<Tensor> shift = bias ? std::optional<Tensor>(seen(*bias)) : std::nullopt;
  return moved(at::convolution_symint(
      seen(x), seen(weight), shift, stride, padding, dilation, transposed, output_padding, groups));
}

std::tuple<Tensor, Tensor, Tensor> convolve_backward(
    const Tensor& gradient, const Tensor& x, const Tensor& weight, c10::SymIntArrayRef stride,
    c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed, c10::SymIntArrayRef output_padding,
    c10::SymInt groups, std::array<bool, 3> mask) {
  const std::vector<c10::SymInt> bias{weight.sym_size(0)};
  auto [to_x, to_weight, to_bias] = at::convolution_backward_symint(
      seen(gradient), seen(x), seen(weight), c10::SymIntArrayRef(bias), stride, padding, dilation, transposed,
      output_padding, groups, mask);
  return {moved(to_x), moved(to_weight), moved(to_bias)};
}

// Operations that take an index or a source on either device.
const std::set<std::string> kEither{"aten::index", "aten::index_put_", "aten::_index_put_impl_"};

void fallback(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  const auto& schema = operation.schema();
  bool here = false, there = false;
  const auto look = [&](const IValue& value) {
    if (!value.isTensor() || !value.toTensor().defined()) return;
    const auto& tensor = value.toTensor();
    (tensor.is_cpu() ? here : there) |= !tensor.is_cpu() || tensor.dim() > 0;
  };
  for (size_t i = stack->size() - schema.arguments().size(); i < stack->size(); ++i) {
    auto& value = (*stack)[i];
    if (value.isGenerator()) {
      const auto generator = value.toGenerator();
      TORCH_CHECK(generator.device() == kDevice, "Expected a generator of the accelerator, in ", schema.name());
      value = static_cast<Random*>(generator.unsafeGetGeneratorImpl())->processor;
    } else if (value.isList()) {
      for (const IValue& item : value.toListRef()) look(item);
    } else {
      look(value);
    }
  }
  TORCH_CHECK(!(here && there) || kEither.count(schema.name()),
              "Expected all tensors to be on the same device, in ", schema.name());
  at::native::cpu_fallback(operation, stack);
}

}  // namespace

namespace at {
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);
REGISTER_ALLOCATOR(DeviceType::PrivateUse1, &memory);
}  // namespace at

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, library) { library.fallback(torch::CppFunction::makeFallthrough()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &create);
  library.impl("empty_strided", &create_strided);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("resize_", &grow);
  library.impl("convolution_overrideable", &convolve);
  library.impl("convolution_backward_overrideable", &convolve_backward);
  library.impl("_local_scalar_dense", [](const Tensor& tensor) { return at::_local_scalar_dense(seen(tensor)); });
  library.impl("as_strided", [](const Tensor& tensor, IntArrayRef size, IntArrayRef stride,
                                std::optional<int64_t> offset) {
    return at::native::as_strided_tensorimpl(tensor, size, stride, offset);
  });
  library.impl("view", [](const Tensor& tensor, IntArrayRef size) { return at::native::view(tensor, size); });
  library.impl("_reshape_alias", [](const Tensor& tensor, IntArrayRef size, IntArrayRef stride) {
    return at::native::_reshape_alias(tensor, size, stride);
  });
  library.impl("unfold", [](const Tensor& tensor, int64_t dim, int64_t size, int64_t step) {
    return at::native::unfold(tensor, dim, size, step);
  });
  library.impl("view_as_real", [](const Tensor& tensor) { return at::native::view_as_real(tensor); });
  library.impl("view_as_complex", [](const Tensor& tensor) { return at::native::view_as_complex(tensor); });
}

const bool registered = (at::RegisterPrivateUse1HooksInterface(&hooks), true);
