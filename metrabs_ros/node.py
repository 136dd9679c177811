"""PoseNode: images of one or several cameras in, people out, as a managed (lifecycle) node."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import Trigger

from metrabs_ros.auto_build import build_first
from metrabs_ros.camera_pipelines import CameraPipelines
from metrabs_ros.camera_stream import CameraStream
from metrabs_ros.diagnostics import NodeDiagnostics, NodeStatus
from metrabs_ros.errors import InputError
from metrabs_ros.frame_transforms import FrameTransforms
from metrabs_ros.frame_worker import FrameWorker
from metrabs_ros.heap import keep_freed_memory
from metrabs_ros.parameter_set import ParameterSet
from metrabs_ros.params import CameraParams, NodeParams
from metrabs_ros.reports import Reports
from metrabs_ros.rerun_log import RerunLog
from metrabs_ros.spinning import spin

RCLError = rclpy_implementation.RCLError
Transition = Callable[["PoseNode", LifecycleState], TransitionCallbackReturn]
OpenPipelines = Callable[..., CameraPipelines]


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
    """Subscribes `image` and what belongs to it, publishes people; see NodeParams for the parameters.

    configure loads and warms the engine, activate subscribes, deactivate unsubscribes, takes everybody out of the view
    and gives back the memory that frames took, cleanup closes the engine. ``open_pipelines(engine, backend, cameras=,
    convention=, num_aug=, person_height=)`` opens it.
    """

    def __init__(self, open_pipelines: OpenPipelines = CameraPipelines.from_engine, **kwargs: Any) -> None:
        super().__init__("pose_node", **kwargs)
        self._open_pipelines = open_pipelines
        self._reports = Reports(self.get_logger())
        self._worker: FrameWorker | None = None
        self._building = ""
        self._cameras: list[CameraStream] = []
        self._recording: RerunLog | None = None
        self._transforms = FrameTransforms(self, self._reports)
        self._settings: ParameterSet[NodeParams] = ParameterSet(
            self,
            NodeParams,
            is_configured=self._is_configured,
            prefixes_of_others=lambda params: [f"{name}." for name in params.camera_names],
        )
        at_start = self._settings.best_record()
        self._camera_settings = {
            name: ParameterSet(
                self, CameraParams, self._is_configured, prefix=f"{name}.", defaults=at_start.of_camera()
            )
            for name in at_start.camera_names
        }
        self._diagnostics = NodeDiagnostics(self, self._status)
        self._reset_service = _reset_service(self)
        self._refuse_impossible_transitions()

    def autostart(self) -> None:
        """Configures and activates the node unless its parameter says otherwise; reasons for failing are logged."""
        if not self.get_parameter("autostart").value:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def forget_everybody(self) -> str:
        """All tracks end at once; a sentence on whom that was. Raises InputError where the node is not active."""
        if self._worker is None or self._lifecycle() != "active":
            raise InputError(f"The node is {self._lifecycle()} and follows nobody: activate it first.")
        self._worker.open_session()
        people = {camera.name: camera.delete_all() for camera in self._cameras}
        each = f" ({', '.join(f'{name}: {count}' for name, count in people.items())})" if len(people) > 1 else ""
        return f"Forgot {sum(people.values())} people{each}: whoever is seen next has a new id."

    @_logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._open()
        except InputError:
            self._release()
            raise
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._worker is not None
        self._worker.warm_up()
        self._worker.open_session()
        for index, camera in enumerate(self._cameras):
            camera.subscribe(functools.partial(self._worker.submit, index), self._worker.dropped(index))
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
        self._diagnostics.destroy()
        super().destroy_node()

    def _open(self) -> None:
        params = self._settings.record()
        self._recording = RerunLog(params.rerun_to) if params.rerun else None
        camera_params: dict[str, Callable[[], CameraParams]] = {
            name: settings.record for name, settings in self._camera_settings.items()
        } or {"": self._settings.record}
        for name, of_camera in camera_params.items():
            self._cameras.append(
                CameraStream(
                    self, name, self._settings.record, of_camera, self._transforms, self._reports, self._recording
                )
            )
        if params.auto_build:
            try:
                build_first(params.engine, params.backend, self._say_building)
            finally:
                self._building = ""
        pipelines = self._open_pipelines(
            params.engine,
            params.backend,
            cameras=len(self._cameras),
            convention=params.convention,
            num_aug=params.num_aug,
            person_height=params.person_height,
        )
        pipelines.warm_up()
        self._worker = FrameWorker(
            pipelines, self._cameras, self._reports, wait_s=lambda: self._settings.record().batch_wait_s
        )
        pipeline = pipelines.pipelines[0]
        self.get_logger().info(
            f"Engine {pipeline.spec.name} ({pipeline.spec.licence}) runs on {pipeline.engine.backend_name}, "
            f"{pipeline.engine.device}.{f' {pipeline.engine.reason}' if pipeline.engine.reason else ''}"
        )
        if pipeline.engine.warning:
            self.get_logger().warning(pipeline.engine.warning)

    def _say_building(self, sentence: str) -> None:
        self.get_logger().info(sentence)
        self._building = sentence
        # The timer of the diagnostics waits until configuring is over.
        self._diagnostics.publish()

    def _is_configured(self) -> bool:
        return self._worker is not None

    def _lifecycle(self) -> str:
        label: str = self._state_machine.current_state[1]
        return label

    def _status(self) -> NodeStatus:
        if self._worker is None:
            return NodeStatus(lifecycle=self._lifecycle(), building=self._building)
        pipeline = self._worker.pipelines.pipelines[0]
        return NodeStatus(
            self._lifecycle(),
            pipeline.spec.name,
            pipeline.engine.backend_name,
            pipeline.engine.device,
            self._worker.failure,
            self._worker.pipelines.calls,
            tuple(camera.status(self._worker.dropped(index)) for index, camera in enumerate(self._cameras)),
        )

    def _fall_silent(self) -> None:
        for camera in self._cameras:
            camera.unsubscribe()
        if self._worker is None:
            return
        self._worker.close_session()
        self._transforms.close()
        for index, camera in enumerate(self._cameras):
            status = camera.status(self._worker.dropped(index))
            camera.delete_all()
            of = f" of {camera.name}" if camera.name else ""
            self.get_logger().info(f"{status.done} frames{of} done, {status.dropped} passed over for newer ones.")

    def _release(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()
        self._transforms.close()
        for camera in self._cameras:
            camera.destroy()
        self._cameras = []
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.close()

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


def _reset_service(node: PoseNode) -> Any:
    """~/reset (std_srvs/Trigger)."""

    def reset(request: Any, response: Any) -> Any:
        try:
            response.message, response.success = node.forget_everybody(), True
        except InputError as error:
            response.message, response.success = str(error), False
        node.get_logger().info(response.message)
        return response

    return node.create_service(Trigger, "~/reset", reset)


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


def main(args: list[str] | None = None, open_pipelines: OpenPipelines = CameraPipelines.from_engine) -> int:
    """The executable pose_node. Ends with 0 on SIGINT and SIGTERM."""
    keep_freed_memory()
    rclpy.init(args=args)
    try:
        run(PoseNode(open_pipelines))
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
