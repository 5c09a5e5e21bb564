#include "ops/device_copies.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "base/error.h"
#include "ops/differentiable.h"

namespace retort {
namespace {

struct Room {
  std::atomic<uint64_t> room = std::numeric_limits<uint64_t>::max(), held = 0, travelling = 0;

  bool take(uint64_t bytes) {
    const uint64_t most = room;
    auto before = held.load();
    do
      if (bytes > most || before > most - bytes) return false;
    while (!held.compare_exchange_weak(before, before + bytes));
    return true;
  }
};
// Never destroyed: weights may go when the program ends.
Room& all_room() {
  static auto* const room = new Room;
  return *room;
}

// Of what is trained, by tensor: the copies keep it, so that its address is nobody else's meanwhile.
struct Unchanged {
  std::mutex mutex;
  int64_t scopes = 0;
  std::unordered_map<const at::TensorImpl*, std::shared_ptr<DeviceCopies>> copies;
};
Unchanged& unchanged() {
  static auto* const all = new Unchanged;
  return *all;
}

std::shared_ptr<DeviceCopies> copies_of_scope(const Tensor& original) {
  auto& all = unchanged();
  const std::lock_guard lock(all.mutex);
  if (all.scopes == 0) return nullptr;
  auto& copies = all.copies[original.unsafeGetTensorImpl()];
  if (!copies) copies = std::make_shared<DeviceCopies>();
  return copies;
}

}  // namespace

DeviceCopies::~DeviceCopies() {
  for (const auto& copy : copies_)
    (copy.there.defined() ? all_room().held : all_room().travelling) -= copy.bytes;
}

bool DeviceCopies::Copy::is_of(const Copy& other) const {
  return data == other.data && original_bytes == other.original_bytes &&
         original.unsafeGetTensorImpl() == other.original.unsafeGetTensorImpl() && version == other.version;
}

std::optional<Tensor> DeviceCopies::copy_of(Copy wanted, at::Device device,
                                            const std::function<Tensor()>& make) {
  auto& room = all_room();
  const std::lock_guard lock(mutex_);
  auto found = std::find_if(copies_.begin(), copies_.end(), [&](const Copy& copy) {
    return copy.part == wanted.part && copy.type == wanted.type;
  });
  if (found != copies_.end() && found->is_of(wanted) && found->there.defined() &&
      found->there.device() == device)
    return found->there;
  if (found != copies_.end()) {
    (found->there.defined() ? room.held : room.travelling) -= found->bytes;
    copies_.erase(found);
  }
  if (room.take(wanted.bytes)) {
    try {
      const at::NoGradGuard no_graph;
      wanted.there = make();
    } catch (...) {
      room.held -= wanted.bytes;
      throw;
    }
  } else {
    room.travelling += wanted.bytes;
  }
  const auto& kept = copies_.emplace_back(std::move(wanted));
  return kept.there.defined() ? std::optional(kept.there) : std::nullopt;
}

std::optional<Tensor> DeviceCopies::tensor(Part part, const Tensor& original, at::Device device,
                                           at::ScalarType type) {
  const auto own = original.scalar_type();
  const auto kept = c10::elementSize(type) < c10::elementSize(own) ? type : own;
  return copy_of({.part = part,
                  .type = kept,
                  .data = original.const_data_ptr(),
                  .original_bytes = original.nbytes(),
                  .bytes = static_cast<uint64_t>(original.numel()) * c10::elementSize(kept),
                  .original = original,
                  .version = original.is_inference() ? 0 : static_cast<int64_t>(original._version())},
                 device, [&] { return original.detach().to(device, kept); });
}

std::optional<Tensor> DeviceCopies::bytes(std::span<const std::byte> original, at::Device device) {
  const auto make = [&] {
    return at::from_blob(const_cast<std::byte*>(original.data()), {static_cast<int64_t>(original.size())},
                         at::TensorOptions(at::kByte))
        .to(device);
  };
  return copy_of({.data = original.data(), .original_bytes = original.size(), .bytes = original.size()},
                 device, make);
}

std::optional<Tensor> DeviceCopies::decoded(std::span<const std::byte> original, at::Device device,
                                            at::ScalarType type, int64_t numbers,
                                            const std::function<Tensor()>& make) {
  return copy_of({.type = type,
                  .data = original.data(),
                  .original_bytes = original.size(),
                  .bytes = static_cast<uint64_t>(numbers) * c10::elementSize(type)},
                 device, make);
}

DeviceRoom device_room() {
  const auto& room = all_room();
  return {room.room, room.held, room.travelling};
}

void set_device_room(uint64_t bytes) { all_room().room = bytes; }

uint64_t room_beside_passes(uint64_t free) {
  const auto left = std::max<uint64_t>(free / 4, uint64_t{2} << 30);
  return free > left ? free - left : 0;
}

std::string describe(const DeviceRoom& room) {
  auto text = bytes(room.held) + " of weights stay there";
  if (room.travelling > 0)
    text += fmt::format(", {} found no room and are copied for each use", bytes(room.travelling));
  return text;
}

UnchangedScope::UnchangedScope() {
  auto& all = unchanged();
  const std::lock_guard lock(all.mutex);
  ++all.scopes;
}

UnchangedScope::~UnchangedScope() {
  auto& all = unchanged();
  const std::lock_guard lock(all.mutex);
  if (--all.scopes == 0) all.copies.clear();
}

std::optional<Tensor> copy_there(const Tensor& original, at::Device device, at::ScalarType type,
                                 const std::shared_ptr<DeviceCopies>& copies, DeviceCopies::Part part) {
  if (device.is_cpu() || !original.is_cpu()) return std::nullopt;
  if (copies && !original.requires_grad()) return copies->tensor(part, original, device, type);
  const auto of_scope = copies_of_scope(original);
  return of_scope ? of_scope->tensor(part, original, device, type) : std::nullopt;
}

Tensor brought(const Tensor& original, at::Device device, at::ScalarType type,
               const std::shared_ptr<DeviceCopies>& copies, DeviceCopies::Part part) {
  const auto there = copy_there(original, device, type, copies, part);
  if (!there) return original.to(device, type);
  if (!any_wants_gradient({original})) return there->to(type);
  return differentiable({"copy"}, {original}, [&](bool) -> Computed {
    return {there->detach().to(type),
            [of = original.options()](const Tensor& gradient) -> Tensors { return {gradient.to(of)}; }};
  });
}

}  // namespace retort
