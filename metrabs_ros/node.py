"""PoseNode: images and camera_info in, markers and TF frames out, as a managed (lifecycle) node."""

from __future__ import annotations

import functools
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import qos_profile_sensor_data
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from metrabs_ros.frame_slot import StampPairing
from metrabs_ros.frame_worker import FrameWorker
from metrabs_ros.messages import camera_from_msg
from metrabs_ros.params import NodeParams, ParameterSet
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.pose import TrackedPose
from metrabs_ros.publishers import PosePublishers
from metrabs_ros.reports import Reports
from metrabs_ros.spinning import spin

RCLError = rclpy_implementation.RCLError
Transition = Callable[["PoseNode", LifecycleState], TransitionCallbackReturn]

# Images that find no camera_info for this long are worth a warning; before, discovery may still be under way.
_PATIENCE_S = 2.0


def _logged(transition: Transition) -> Transition:
    """rclpy swallows what a transition raises: here its reason is logged, and the transition fails."""

    @functools.wraps(transition)
    def checked(self: PoseNode, state: LifecycleState) -> TransitionCallbackReturn:
        verb = transition.__name__.removeprefix("on_")
        try:
            return transition(self, state)
        except InputError as error:
            self.get_logger().error(f"Cannot {verb}: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception:
            self.get_logger().error(f"Cannot {verb}, this is a fault in the node: {traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR

    return checked


class PoseNode(LifecycleNode):
    """Subscribes `image` and `camera_info`, publishes `~/markers` and `/tf`; see NodeParams for the parameters.

    configure loads and warms the engine, activate subscribes, deactivate unsubscribes and deletes the markers, cleanup
    closes the engine. ``open_pipeline(engine, backend, up=...)`` makes the pipeline.
    """

    def __init__(self, open_pipeline: Callable[..., PosePipeline] = PosePipeline.from_engine, **kwargs: Any) -> None:
        super().__init__("pose_node", **kwargs)
        self._open_pipeline = open_pipeline
        self._reports = Reports(self.get_logger())
        self._worker: FrameWorker | None = None
        self._outputs = PosePublishers(self)
        self._inputs: list[Subscription] = []
        self._pairing = StampPairing()
        self._latest_info: CameraInfo | None = None
        self._paired_at = time.monotonic()
        self._settings = ParameterSet(self, NodeParams, is_configured=lambda: self._worker is not None)
        self._refuse_impossible_transitions()

    def autostart(self) -> None:
        """Configures and activates the node unless its parameter says otherwise; reasons for failing are logged."""
        if not self.get_parameter("autostart").value:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    @_logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        params = self._settings.record()
        pipeline = self._open_pipeline(params.engine, params.backend, up=params.up)
        pipeline.warm_up()
        self._worker = FrameWorker(pipeline, self._camera_of, self._publish, self._reports)
        self.get_logger().info(
            f"Engine {pipeline.spec.name} ({pipeline.spec.licence}) runs on {pipeline.engine.backend_name}, "
            f"{pipeline.engine.device}."
        )
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._worker is not None
        params = self._settings.record()
        self._pairing = StampPairing()
        self._latest_info = None
        self._paired_at = time.monotonic()
        self._worker.open_session()
        self._inputs = [self.create_subscription(Image, "image", self._on_image, qos_profile_sensor_data)]
        if not params.fov_deg:
            self._inputs.append(
                self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, qos_profile_sensor_data)
            )
        camera = f"a field of view of {params.fov_deg:g} degrees" if params.fov_deg else self._inputs[1].topic_name
        self.get_logger().info(f"Waiting for images on {self._inputs[0].topic_name} with {camera}.")
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._fall_silent()
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._fall_silent()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._fall_silent()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        self._release()
        super().destroy_node()

    def _on_image(self, image: Image) -> None:
        params = self._settings.record()
        if params.fov_deg:
            self._submit((image, None))
        elif params.camera_info_match == "latest":
            self._submit((image, self._latest_info) if self._latest_info else None)
        else:
            self._submit(self._pairing.with_image(image))
        if time.monotonic() - self._paired_at > _PATIENCE_S:
            self._warn_of_lonely_images()

    def _on_camera_info(self, info: CameraInfo) -> None:
        self._latest_info = info
        if self._settings.record().camera_info_match == "stamp":
            self._submit(self._pairing.with_info(info))

    def _submit(self, frame: tuple[Image, CameraInfo | None] | None) -> None:
        if frame is not None and self._worker is not None:
            self._paired_at = time.monotonic()
            self._worker.submit(*frame)

    def _warn_of_lonely_images(self) -> None:
        image, info = (subscription.topic_name for subscription in self._inputs)
        if self._latest_info is None:
            trouble = "but no camera_info at all: remap camera_info to the camera's topic, or set fov_deg"
        else:
            trouble = (
                "but no camera_info with their stamps: set camera_info_match to latest if the camera does not change"
            )
        self._reports.warning(trouble, f"Images arrive on {image}, {trouble} (camera_info is read from {info}).")

    def _camera_of(self, info: CameraInfo | None, size: tuple[int, int]) -> Camera:
        params = self._settings.record()
        return Camera.from_fov(params.fov_deg, size) if info is None else camera_from_msg(info, params.rectified)

    def _publish(self, header: Header, poses: list[TrackedPose]) -> None:
        assert self._worker is not None
        try:
            self._outputs.publish(header, poses, self._worker.pipeline.skeleton, self._settings.record())
        except RCLError:
            # A frame that is done after SIGINT has nowhere to go.
            if self.context.ok():
                raise

    def _fall_silent(self) -> None:
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        if self._worker is not None:
            self._worker.close_session()
            self._outputs.delete_all()
            self.get_logger().info(
                f"{self._worker.processed} frames done, {self._worker.dropped} passed over for newer ones."
            )

    def _release(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _refuse_impossible_transitions(self) -> None:
        # rclpy lets the RCLError of an impossible transition out of spin(), and the caller waits for ever.
        service = self._service_change_state
        change_state = service.callback

        def answered(request: Any, response: Any) -> Any:
            try:
                return change_state(request, response)
            except RCLError as error:
                wanted = request.transition.label or request.transition.id
                self.get_logger().warning(f"The transition {wanted} is not possible now: {_first_line(error)}.")
                response.success = False
                return response

        service.callback = answered


def run(node: PoseNode) -> None:
    """Spins the node until the context is shut down; an RCLError out of a callback is logged and survived."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    try:
        node.autostart()
        while node.context.ok():
            try:
                spin(node, executor)
            except RCLError:
                node.get_logger().error(f"Going on after: {traceback.format_exc()}")
    finally:
        executor.remove_node(node)
        node.destroy_node()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].split(", at ")[0] if str(error) else type(error).__name__


def main(args: list[str] | None = None, open_pipeline: Callable[..., PosePipeline] = PosePipeline.from_engine) -> int:
    """The executable pose_node. Ends with 0 on SIGINT and SIGTERM."""
    rclpy.init(args=args)
    try:
        run(PoseNode(open_pipeline))
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
