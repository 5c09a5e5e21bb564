// What stays on a device from one operation to the next, where otherwise each would copy it there: weights
// that nothing trains, and what is trained for as long as nobody changes it.
#pragma once
#include <ATen/ATen.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace retort {

// Copies of one weight on a device, in the forms that operations ask for. All copies of the weight's value
// share them, and they are freed with the last of these. They are never served for something else: what
// stands in the weight's place since, or was changed by LibTorch's operations, is copied anew.
class DeviceCopies {
 public:
  enum class Part { numbers, scales, zeros, groups, bias };  // of a weight

  DeviceCopies() = default;
  ~DeviceCopies();
  DeviceCopies(const DeviceCopies&) = delete;
  DeviceCopies& operator=(const DeviceCopies&) = delete;

  // A tensor on the device, of its own type or of `type`, whichever is narrower. Nothing where there is no
  // room; then it is asked again the next time.
  std::optional<at::Tensor> tensor(Part part, const at::Tensor& original, at::Device device,
                                   at::ScalarType type);
  // Bytes as they are stored: uint8 [bytes].
  std::optional<at::Tensor> bytes(std::span<const std::byte> original, at::Device device);
  // What `make` makes of bytes that cannot be decoded there: so many numbers of `type` on the device.
  std::optional<at::Tensor> decoded(std::span<const std::byte> original, at::Device device,
                                    at::ScalarType type, int64_t numbers,
                                    const std::function<at::Tensor()>& make);

  // False the first time. What can do without (the embedding, of which rows alone are asked for) asks for
  // room from the second time on: all others have asked by then.
  bool asked_before() { return asked_.exchange(true); }

 private:
  struct Copy {
    Part part = Part::numbers;
    at::ScalarType type = at::kByte;
    const void* data = nullptr;  // of the original
    uint64_t original_bytes = 0, bytes = 0;
    at::Tensor original = {};  // kept, so that no other tensor gets its address; undefined: bytes
    int64_t version = 0;       // of the original, which LibTorch counts
    at::Tensor there = {};     // undefined: there was no room

    bool is_of(const Copy& other) const;
  };
  std::optional<at::Tensor> copy_of(Copy wanted, at::Device device, const std::function<at::Tensor()>& make);

  std::mutex mutex_;
  std::vector<Copy> copies_;
  std::atomic<bool> asked_ = false;
};

// Bytes of a device's memory that copies have. A process computes on one device.
struct DeviceRoom {
  uint64_t room = 0;        // at most
  uint64_t held = 0;        // now
  uint64_t travelling = 0;  // of what found no room and is copied for each use
};
DeviceRoom device_room();
// At the start there is no limit. What is held already stays.
void set_device_room(uint64_t bytes);
// Of a device with so many bytes free: a quarter, at least 2 GiB, is left for what passes compute.
uint64_t room_beside_passes(uint64_t free);
std::string describe(const DeviceRoom& room);

// While one lives, nothing that is trained changes: its copies stay too, and go with the scope, which is put
// around the passes of one step, of an evaluation, of answers; never around what the optimizer does.
class UnchangedScope {
 public:
  UnchangedScope();
  ~UnchangedScope();
  UnchangedScope(const UnchangedScope&) = delete;
  UnchangedScope& operator=(const UnchangedScope&) = delete;
};

// The copy that stays of a weight's tensor on a device (DeviceCopies::tensor): `copies` are its own and serve
// it while it wants no gradient; an UnchangedScope's serve any. Nothing in the CPU's memory, and where
// neither has one.
std::optional<at::Tensor> copy_there(const at::Tensor& original, at::Device device, at::ScalarType type,
                                     const std::shared_ptr<DeviceCopies>& copies = nullptr,
                                     DeviceCopies::Part part = DeviceCopies::Part::numbers);
// The same with its graph, in `type`, or where nothing stays a copy for this use alone.
at::Tensor brought(const at::Tensor& original, at::Device device, at::ScalarType type,
                   const std::shared_ptr<DeviceCopies>& copies = nullptr,
                   DeviceCopies::Part part = DeviceCopies::Part::numbers);

}  // namespace retort
